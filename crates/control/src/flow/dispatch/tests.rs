use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn spec(name: &str, shares: u32, lendable_percent: u32) -> LevelSpec {
    LevelSpec {
        name: name.to_owned(),
        exempt: false,
        shares,
        lendable_percent,
        borrowing_percent: None,
        queuing: Some(Queuing {
            queues: 64,
            hand_size: 6,
            length: 50,
        }),
    }
}

fn dispatcher(seats: u32, specs: &[LevelSpec]) -> Dispatcher {
    let mut dispatcher = Dispatcher::new(seats);
    dispatcher.configure(specs);
    dispatcher
}

fn ticket(arrival: Arrival) -> Ticket {
    match arrival {
        Arrival::Waits(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

fn place(arrival: Arrival) -> Place {
    match arrival {
        Arrival::Served(place) => place,
        other => panic!("{other:?}"),
    }
}

#[test]
fn hands_are_of_different_cards() {
    for hash in [0, 1, 7, u64::MAX, 0x0123_4567_89ab_cdef] {
        for (count, size) in [(1, 1), (8, 8), (64, 6), (3, 6)] {
            let hand = deal(hash, count, size);
            let different: BTreeSet<_> = hand.iter().collect();
            assert_eq!(different.len(), size.min(count), "{hash} {count} {size}: {hand:?}");
            assert!(hand.iter().all(|card| *card < count));
        }
    }
}

/// Hundreds of expensive requests of one client before a node's: the node waits for one of them, not for all.
#[test]
fn a_noisy_flow_does_not_hold_up_another() {
    let mut dispatcher = dispatcher(10, &[spec("level", 1, 0)]);
    let level = dispatcher.key("level").unwrap();
    let mut running: VecDeque<Place> = (0..10).map(|_| place(dispatcher.arrive(level, 1, 1))).collect();
    let (mut noise, mut refused) = (BTreeSet::new(), 0);
    for _ in 0..1_000 {
        match dispatcher.arrive(level, 1, 1) {
            Arrival::Waits(ticket) => drop(noise.insert(ticket)),
            Arrival::Refused(Refusal::QueueFull) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        (noise.len(), refused),
        (300, 700),
        "its hand of six queues, fifty in each"
    );
    let quiet: Vec<Ticket> = (0..5)
        .map(|_| ticket(dispatcher.arrive(level, 0xdead_beef_1234, 1)))
        .collect();
    let mut order = Vec::new();
    for _ in 0..40 {
        let ended = running.pop_front().unwrap();
        for called in dispatcher.finish(&ended, Duration::from_secs(1)) {
            order.push(quiet.contains(&called));
            running.push_back(dispatcher.served(called).unwrap());
        }
    }
    let quiet_at: Vec<usize> = (0..order.len()).filter(|index| order[*index]).collect();
    assert_eq!(quiet_at.len(), 5);
    assert!(quiet_at.iter().all(|index| *index < 12), "{quiet_at:?}");
}

#[test]
fn wide_requests_pay_for_their_seats() {
    let queuing = Queuing {
        queues: 64,
        hand_size: 1,
        length: 50,
    };
    let single = LevelSpec {
        queuing: Some(queuing),
        ..spec("level", 1, 0)
    };
    let mut dispatcher = dispatcher(10, &[single]);
    let level = dispatcher.key("level").unwrap();
    let first = place(dispatcher.arrive(level, 3, 10));
    let wide: Vec<Ticket> = (0..20).map(|_| ticket(dispatcher.arrive(level, 1, 10))).collect();
    let narrow: Vec<Ticket> = (0..20).map(|_| ticket(dispatcher.arrive(level, 2, 1))).collect();
    let mut running = VecDeque::from([first]);
    let (mut wide_seats, mut narrow_seats) = (0, 0);
    // While both have something waiting, both get about the same work done.
    while narrow_seats < 15 {
        let ended = running.pop_front().unwrap();
        for called in dispatcher.finish(&ended, GUESS) {
            if wide.contains(&called) {
                wide_seats += 10;
            }
            if narrow.contains(&called) {
                narrow_seats += 1;
            }
            running.push_back(dispatcher.served(called).unwrap());
        }
    }
    assert!((10..=20).contains(&wide_seats), "{wide_seats} {narrow_seats}");
}

#[test]
fn a_level_keeps_what_it_does_not_lend_and_gets_back_the_rest() {
    let mut dispatcher = dispatcher(100, &[spec("noise", 1, 50), spec("nodes", 1, 50)]);
    let (noise, nodes) = (dispatcher.key("noise").unwrap(), dispatcher.key("nodes").unwrap());
    let mut running = Vec::new();
    let waiting = loop {
        match dispatcher.arrive(noise, 1, 1) {
            Arrival::Served(place) => running.push(place),
            Arrival::Waits(ticket) => break ticket,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(running.len(), 75, "fifty of its own, and what the other lends");
    let own: Vec<Place> = (0..25).map(|_| place(dispatcher.arrive(nodes, 2, 1))).collect();
    assert_eq!(own.len(), 25, "at once: these are never lent");
    // What is given back goes to the level it was borrowed from.
    let node = ticket(dispatcher.arrive(nodes, 2, 1));
    let called = dispatcher.finish(&running.pop().unwrap(), GUESS);
    assert_eq!(called, [node]);
    assert_ne!(node, waiting);
}

#[test]
fn levels_that_do_not_queue_refuse_and_exempt_ones_do_not_count() {
    let reject = LevelSpec {
        queuing: None,
        ..spec("catch-all", 1, 0)
    };
    let exempt = LevelSpec {
        exempt: true,
        ..spec("exempt", 0, 0)
    };
    let mut dispatcher = dispatcher(2, &[reject, exempt]);
    let (level, exempt) = (dispatcher.key("catch-all").unwrap(), dispatcher.key("exempt").unwrap());
    let first = place(dispatcher.arrive(level, 1, 1));
    place(dispatcher.arrive(level, 1, 1));
    assert_eq!(
        dispatcher.arrive(level, 1, 1),
        Arrival::Refused(Refusal::ConcurrencyLimit)
    );
    assert_eq!(dispatcher.arrive(exempt, 1, 1), Arrival::Exempt);
    dispatcher.finish(&first, GUESS);
    place(dispatcher.arrive(level, 1, 1));
}

#[test]
fn a_level_that_goes_serves_who_waits_at_it() {
    let mut dispatcher = dispatcher(1, &[spec("old", 1, 0)]);
    let old = dispatcher.key("old").unwrap();
    let running = place(dispatcher.arrive(old, 1, 1));
    let waiting = ticket(dispatcher.arrive(old, 1, 1));
    dispatcher.configure(&[spec("new", 1, 0)]);
    assert_eq!(dispatcher.key("old"), None);
    assert_eq!(dispatcher.finish(&running, GUESS), [waiting]);
    let last = dispatcher.served(waiting).unwrap();
    dispatcher.finish(&last, GUESS);
    assert_eq!(dispatcher.stats().len(), 1);
}

#[derive(Clone, Debug)]
enum Act {
    Arrive { level: usize, flow: u64, seats: u32 },
    Finish(usize),
    Leave(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0..3_usize, 0..5_u64, 1..4_u32).prop_map(|(level, flow, seats)| Act::Arrive { level, flow, seats }),
        2 => (0..100_usize).prop_map(Act::Finish),
        1 => (0..100_usize).prop_map(Act::Leave),
    ]
}

proptest! {
    /// Seats are never given out twice, nobody is forgotten, and nobody waits while there is nothing else going on.
    #[test]
    fn seats_are_accounted_for(acts in proptest::collection::vec(act(), 0..200)) {
        let specs = [spec("a", 2, 30), spec("b", 1, 100), spec("c", 1, 0)];
        let mut dispatcher = dispatcher(8, &specs);
        let keys: Vec<Key> = specs.iter().map(|spec| dispatcher.key(&spec.name).unwrap()).collect();
        let mut running: Vec<Place> = Vec::new();
        let mut waiting: Vec<Ticket> = Vec::new();
        for act in acts {
            match act {
                Act::Arrive { level, flow, seats } => match dispatcher.arrive(keys[level], flow << 32, seats) {
                    Arrival::Served(place) => running.push(place),
                    Arrival::Waits(ticket) => waiting.push(ticket),
                    Arrival::Refused(refusal) => prop_assert_eq!(refusal, Refusal::QueueFull),
                    Arrival::Exempt => prop_assert!(false),
                },
                Act::Finish(index) if !running.is_empty() => {
                    let place = running.swap_remove(index % running.len());
                    for ticket in dispatcher.finish(&place, GUESS) {
                        prop_assert!(waiting.contains(&ticket));
                        waiting.retain(|other| *other != ticket);
                        running.push(dispatcher.served(ticket).unwrap());
                    }
                }
                Act::Leave(index) if !waiting.is_empty() => {
                    let ticket = waiting.swap_remove(index % waiting.len());
                    dispatcher.leave(ticket);
                }
                _ => {}
            }
            let stats = dispatcher.stats();
            let executing: u64 = stats.iter().map(|level| level.executing).sum();
            let queued: u64 = stats.iter().map(|level| level.waiting).sum();
            prop_assert_eq!((executing, queued), (running.len() as u64, waiting.len() as u64));
            for (level, key) in stats.iter().zip(&keys) {
                let seats: u32 = running.iter().filter(|place| place.level == *key).map(|place| place.seats).sum();
                prop_assert_eq!(level.executing_seats, seats);
                prop_assert!(level.waiting == 0 || level.executing > 0, "{:?}", level);
            }
        }
    }
}
