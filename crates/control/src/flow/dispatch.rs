//! Seats, queues and turns. Pure: it is told of arrivals and ends, and says who is served.
//!
//! **Between levels.** Each level has a nominal number of seats, of which it lends a part as long as it does not need them
//! itself; the rest is always its own. So a level full of noise leaves every other level what it was promised.
//!
//! **Within a level.** A flow is dealt a small hand of the level's queues and takes the shortest of them; so a noisy flow fills
//! its hand, and the chance that all of another flow's hand is among those is tiny. Queues are served by fair queuing: each has
//! a virtual time that moves on by the work (seats × time) it was given, and the one that is furthest behind is next. What a
//! request will take is guessed when it begins and corrected when it ends.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

/// What a request is guessed to take.
const GUESS: Duration = Duration::from_millis(3);
/// A list takes at most so many seats, and at most this part of its level's.
const MOST_SEATS: u32 = 10;
const MOST_SEATS_PERCENT: u32 = 15;

/// A level, for as long as it is there.
pub(super) type Key = u64;

/// A request that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// How a level is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LevelSpec {
    pub(super) name: String,
    /// Its requests are neither counted nor held up.
    pub(super) exempt: bool,
    /// What it has of the server, relative to the others.
    pub(super) shares: u32,
    pub(super) lendable_percent: u32,
    /// `None`: without a limit.
    pub(super) borrowing_percent: Option<u32>,
    /// `None`: what has no seat is refused.
    pub(super) queuing: Option<Queuing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Queuing {
    pub(super) queues: u32,
    pub(super) hand_size: u32,
    pub(super) length: u32,
}

/// Why a request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The level does not queue.
    ConcurrencyLimit,
    QueueFull,
    TimeOut,
}

impl Refusal {
    /// As Kubernetes' metrics name it.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Refusal::ConcurrencyLimit => "concurrency-limit",
            Refusal::QueueFull => "queue-full",
            Refusal::TimeOut => "time-out",
        }
    }
}

/// Where a request that is served has its seats from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    level: Key,
    queue: Option<usize>,
    seats: u32,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    Exempt,
    Served(Place),
    Waits(Ticket),
    Refused(Refusal),
}

/// What a level is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LevelStats {
    pub(crate) name: String,
    pub(crate) nominal_seats: u32,
    pub(crate) executing_seats: u32,
    pub(crate) executing: u64,
    pub(crate) waiting: u64,
}

pub(super) struct Dispatcher {
    seats: u32,
    levels: BTreeMap<Key, Level>,
    next_key: Key,
    next_ticket: u64,
    /// Requests that were called but have not noticed yet.
    called: HashMap<Ticket, Place>,
    /// Where those wait that do.
    queued: HashMap<Ticket, (Key, usize)>,
}

struct Level {
    spec: LevelSpec,
    nominal: u32,
    lendable: u32,
    most: u32,
    in_use: u32,
    executing: u64,
    waiting: u64,
    queues: Vec<Queue>,
    /// How far the queue that was served last had come: where a queue that was empty begins.
    virtual_time: u64,
    /// No object asks for it any more; it goes when it is empty.
    removed: bool,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(Ticket, u32)>,
    /// In seat-nanoseconds.
    virtual_time: u64,
    in_use: u32,
    executing: u32,
}

fn work(seats: u32, time: Duration) -> u64 {
    u64::from(seats).saturating_mul(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

impl Dispatcher {
    pub(super) fn new(seats: u32) -> Self {
        Dispatcher {
            seats,
            levels: BTreeMap::new(),
            next_key: 0,
            next_ticket: 0,
            called: HashMap::new(),
            queued: HashMap::new(),
        }
    }

    /// The level of this name.
    pub(super) fn key(&self, name: &str) -> Option<Key> {
        let mut levels = self.levels.iter();
        levels
            .find(|(_, level)| !level.removed && level.spec.name == name)
            .map(|(key, _)| *key)
    }

    /// Levels come, change and go; who waits or is served stays. Returns who is served by that.
    pub(super) fn configure(&mut self, specs: &[LevelSpec]) -> Vec<Ticket> {
        for level in self.levels.values_mut() {
            level.removed = true;
        }
        for spec in specs {
            let known = self.levels.iter().find(|(_, level)| level.spec.name == spec.name);
            let key = known.map_or_else(
                || {
                    self.next_key += 1;
                    self.next_key
                },
                |(key, _)| *key,
            );
            let level = self.levels.entry(key).or_insert_with(|| Level::new(spec));
            level.removed = false;
            level.set(spec);
        }
        self.levels
            .retain(|_, level| !level.removed || level.waiting > 0 || level.executing > 0);
        self.share_out();
        let keys: Vec<Key> = self.levels.keys().copied().collect();
        keys.into_iter().flat_map(|key| self.serve(key)).collect()
    }

    fn share_out(&mut self) {
        let total: u64 = self.levels.values().map(|level| u64::from(level.shares())).sum();
        for level in self.levels.values_mut() {
            let shares = u64::from(level.shares());
            let nominal = (u64::from(self.seats) * shares).div_ceil(total.max(1));
            level.nominal = u32::try_from(nominal).unwrap_or(u32::MAX);
            level.lendable = percent(level.nominal, level.spec.lendable_percent);
            let borrowing = level.spec.borrowing_percent;
            level.most = match borrowing {
                Some(part) => level.nominal.saturating_add(percent(level.nominal, part)),
                None => u32::MAX,
            };
        }
    }

    /// How many seats one request at this level may take.
    pub(super) fn most_seats(&self, key: Key) -> u32 {
        let part = self.levels.get(&key).map_or(0, |level| {
            u32::try_from((u64::from(level.nominal) * u64::from(MOST_SEATS_PERCENT)).div_ceil(100)).unwrap_or(1)
        });
        part.clamp(1, MOST_SEATS)
    }

    /// A request of flow `flow` arrives.
    pub(super) fn arrive(&mut self, key: Key, flow: u64, seats: u32) -> Arrival {
        let Some(level) = self.levels.get(&key) else {
            // Its level went while it was being looked at; there is none to count it at.
            return Arrival::Exempt;
        };
        if level.spec.exempt {
            return Arrival::Exempt;
        }
        let Some(queuing) = level.spec.queuing else {
            return self.arrive_unqueued(key, seats);
        };
        let index = level.shortest(flow, queuing.hand_size);
        let room = self.has_room(key, seats);
        let Some(level) = self.levels.get_mut(&key) else {
            return Arrival::Exempt;
        };
        if level.waiting == 0 && room {
            return Arrival::Served(level.begin(key, Some(index), seats));
        }
        let queue = &mut level.queues[index];
        if queue.waiting.len() >= usize::try_from(queuing.length).unwrap_or(usize::MAX) {
            return Arrival::Refused(Refusal::QueueFull);
        }
        if queue.waiting.is_empty() && queue.executing == 0 {
            queue.virtual_time = queue.virtual_time.max(level.virtual_time);
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        queue.waiting.push_back((ticket, seats));
        level.waiting += 1;
        self.queued.insert(ticket, (key, index));
        Arrival::Waits(ticket)
    }

    fn arrive_unqueued(&mut self, key: Key, seats: u32) -> Arrival {
        if !self.has_room(key, seats) {
            return Arrival::Refused(Refusal::ConcurrencyLimit);
        }
        match self.levels.get_mut(&key) {
            Some(level) => Arrival::Served(level.begin(key, None, seats)),
            None => Arrival::Exempt,
        }
    }

    /// Has a level seats of its own left, or can it borrow them? One request is always possible.
    fn has_room(&self, key: Key, seats: u32) -> bool {
        let Some(level) = self.levels.get(&key) else {
            return false;
        };
        let wanted = level.in_use.saturating_add(seats);
        if level.in_use == 0 || wanted <= level.nominal - level.lendable {
            return true;
        }
        if wanted > level.most {
            return false;
        }
        // What others can spare, less what is borrowed already, this level's own lendable seats included.
        let (mut spare, mut borrowed) = (0_u64, 0_u64);
        for other in self.levels.values().filter(|level| !level.spec.exempt) {
            let kept = other.nominal - other.lendable;
            spare += u64::from(other.lendable);
            borrowed += u64::from(other.in_use.saturating_sub(kept));
        }
        // A level below its nominal size takes back what it lent before others get more.
        let reserved: u64 = if wanted <= level.nominal {
            0
        } else {
            let others = self
                .levels
                .iter()
                .filter(|(other, level)| **other != key && level.waiting > 0);
            others
                .map(|(_, other)| u64::from(other.nominal.saturating_sub(other.in_use).min(other.lendable)))
                .sum()
        };
        let kept = level.nominal - level.lendable;
        let more = u64::from(wanted.saturating_sub(level.in_use.max(kept)));
        borrowed + more + reserved <= spare
    }

    /// A request ends. Returns who is served by that.
    pub(super) fn finish(&mut self, place: &Place, took: Duration) -> Vec<Ticket> {
        if let Some(level) = self.levels.get_mut(&place.level) {
            level.end(place, took);
            if level.removed && level.waiting == 0 && level.executing == 0 {
                self.levels.remove(&place.level);
                self.share_out();
            }
        }
        // Its own level first, then those that may have waited for what it borrowed.
        let mut called = self.serve(place.level);
        let others: Vec<Key> = self
            .levels
            .iter()
            .filter(|(key, level)| **key != place.level && level.waiting > 0)
            .map(|(key, _)| *key)
            .collect();
        for key in others {
            called.extend(self.serve(key));
        }
        called
    }

    fn serve(&mut self, key: Key) -> Vec<Ticket> {
        let mut called = Vec::new();
        while let Some((index, seats)) = self.levels.get(&key).and_then(Level::next) {
            if !self.has_room(key, seats) {
                break;
            }
            let Some(level) = self.levels.get_mut(&key) else { break };
            let Some((ticket, seats)) = level.queues[index].waiting.pop_front() else {
                break;
            };
            level.waiting -= 1;
            let place = level.begin(key, Some(index), seats);
            self.queued.remove(&ticket);
            self.called.insert(ticket, place);
            called.push(ticket);
        }
        called
    }

    /// Was this request called? Asked once.
    pub(super) fn served(&mut self, ticket: Ticket) -> Option<Place> {
        self.called.remove(&ticket)
    }

    /// A request does not want to wait any longer.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        let Some((key, index)) = self.queued.remove(&ticket) else {
            return;
        };
        let Some(level) = self.levels.get_mut(&key) else { return };
        let queue = &mut level.queues[index].waiting;
        let before = queue.len();
        queue.retain(|(other, _)| *other != ticket);
        level.waiting -= (before - queue.len()) as u64;
    }

    pub(super) fn stats(&self) -> Vec<LevelStats> {
        let stats = self.levels.values().map(|level| LevelStats {
            name: level.spec.name.clone(),
            nominal_seats: level.nominal,
            executing_seats: level.in_use,
            executing: level.executing,
            waiting: level.waiting,
        });
        stats.collect()
    }
}

impl Level {
    fn new(spec: &LevelSpec) -> Self {
        Level {
            spec: spec.clone(),
            nominal: 0,
            lendable: 0,
            most: 0,
            in_use: 0,
            executing: 0,
            waiting: 0,
            queues: Vec::new(),
            virtual_time: 0,
            removed: false,
        }
    }

    fn set(&mut self, spec: &LevelSpec) {
        self.spec = spec.clone();
        let wanted = spec.queuing.map_or(0, |queuing| queuing.queues as usize);
        while self.queues.len() < wanted {
            self.queues.push(Queue::default());
        }
        // Queues that are in use stay until they are not; nobody new comes to them.
        while self.queues.len() > wanted
            && let Some(last) = self.queues.last()
            && last.waiting.is_empty()
            && last.executing == 0
        {
            self.queues.pop();
        }
    }

    fn shares(&self) -> u32 {
        if self.removed { 0 } else { self.spec.shares }
    }

    /// The queue with the least to do, of those the flow was dealt.
    fn shortest(&self, flow: u64, hand_size: u32) -> usize {
        let count = self.spec.queuing.map_or(1, |queuing| queuing.queues as usize).max(1);
        let load = |index: usize| {
            let queue = &self.queues[index];
            let waiting: u32 = queue.waiting.iter().map(|(_, seats)| seats).sum();
            waiting + queue.in_use
        };
        deal(flow, count, hand_size as usize)
            .into_iter()
            .min_by_key(|index| load(*index))
            .unwrap_or(0)
    }

    /// The queue whose turn it is, and the seats its first request wants.
    fn next(&self) -> Option<(usize, u32)> {
        if self.waiting == 0 {
            return None;
        }
        self.queues
            .iter()
            .enumerate()
            .filter_map(|(index, queue)| {
                let (_, seats) = queue.waiting.front()?;
                let ends = queue.virtual_time.saturating_add(work(*seats, GUESS));
                Some(((ends, index), (index, *seats)))
            })
            .min_by_key(|(order, _)| *order)
            .map(|(_, found)| found)
    }

    fn begin(&mut self, level: Key, queue: Option<usize>, seats: u32) -> Place {
        self.in_use += seats;
        self.executing += 1;
        if let Some(queue) = queue.map(|index| &mut self.queues[index]) {
            if queue.executing == 0 && queue.waiting.is_empty() {
                queue.virtual_time = queue.virtual_time.max(self.virtual_time);
            }
            self.virtual_time = self.virtual_time.max(queue.virtual_time);
            queue.virtual_time = queue.virtual_time.saturating_add(work(seats, GUESS));
            queue.in_use += seats;
            queue.executing += 1;
        }
        Place { level, queue, seats }
    }

    fn end(&mut self, place: &Place, took: Duration) {
        self.in_use -= place.seats;
        self.executing -= 1;
        if let Some(queue) = place.queue.and_then(|index| self.queues.get_mut(index)) {
            queue.virtual_time = queue
                .virtual_time
                .saturating_sub(work(place.seats, GUESS))
                .saturating_add(work(place.seats, took));
            queue.in_use -= place.seats;
            queue.executing -= 1;
        }
    }
}

fn percent(of: u32, part: u32) -> u32 {
    let rounded = (u64::from(of) * u64::from(part) + 50) / 100;
    u32::try_from(rounded).unwrap_or(u32::MAX)
}

/// `size` different cards of a deck of `count`, as the hash says.
fn deal(mut hash: u64, count: usize, size: usize) -> Vec<usize> {
    let mut hand: Vec<usize> = Vec::with_capacity(size);
    for dealt in 0..size.clamp(1, count) {
        let left = (count - dealt) as u64;
        let mut card = usize::try_from(hash % left).unwrap_or(0);
        hash /= left;
        // The number counts only the cards that are still in the deck.
        let mut sorted = hand.clone();
        sorted.sort_unstable();
        for taken in sorted {
            if card >= taken {
                card += 1;
            }
        }
        hand.push(card);
    }
    hand
}

#[cfg(test)]
mod tests;
