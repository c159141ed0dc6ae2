//! From a [`Policy`] to a classic BPF program.
//!
//! The kernel runs the program at every system call, and once per call number when it is installed (to learn which
//! calls are always allowed), so its shape counts: numbers are found by binary search over ranges with the same answer,
//! not by walking a list. The default policy becomes about 190 instructions where a chain needs ten times as many.
//! One program holds every action, so that rules keep the order and meaning they have in an OCI profile.
//!
//! ```text
//!   arch ok? ──no──▶ kill the process        (another ABI has other numbers: nothing could be checked)
//!   nr < n/2 ?  ── … ──▶  ret ACTION
//!                    └──▶ argument rules of this call, first match wins ──▶ ret ACTION
//! ```

use super::{Action, Compare, Condition, Policy, Rule, Width};
use libc::sock_filter;

/// Longest program the kernel takes (`BPF_MAXINSNS`).
const MAX_INSTRUCTIONS: usize = 4096;
/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;
/// Numbers from this bit on are calls of the x32 ABI, which kernels may offer beside x86-64's. No rule names one.
const X32: u32 = 0x4000_0000;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const IF_GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const IF_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;
#[cfg(target_arch = "riscv64")]
const AUDIT_ARCH: u32 = 0xc000_00f3;

/// A policy that does not fit into a program the kernel accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the seccomp profile needs {0} instructions, the kernel accepts {MAX_INSTRUCTIONS}")]
pub struct TooLong(pub usize);

pub(super) fn compile(policy: &Policy) -> Result<Vec<sock_filter>, TooLong> {
    let mut program = vec![
        statement(LOAD, ARCH),
        branch(IF_EQUAL, AUDIT_ARCH, 1, 0),
        statement(RETURN, Action::KillProcess.encode()),
        statement(LOAD, NUMBER),
    ];
    program.extend(search(&ranges(policy)));
    if program.len() > MAX_INSTRUCTIONS {
        Err(TooLong(program.len()))
    } else {
        Ok(program)
    }
}

/// All numbers from `first` up to the next range's `first` share one answer.
struct Range {
    first: u32,
    code: Vec<sock_filter>,
}

fn ranges(policy: &Policy) -> Vec<Range> {
    let mut rules: Vec<&Rule> = policy.rules.iter().collect();
    rules.sort_by_key(|rule| rule.syscall); // stable: rules of one call keep their order
    let mut ranges = Vec::new();
    let mut next = 0;
    for group in rules.chunk_by(|a, b| a.syscall == b.syscall) {
        let number = group[0].syscall;
        if number > next {
            push(&mut ranges, next, answer(policy.default));
        }
        push(&mut ranges, number, call_block(group, policy.default));
        next = number + 1;
    }
    push(&mut ranges, next, answer(policy.default));
    if let Some((first, action)) = policy.unknown {
        debug_assert!(first >= next, "unknown calls come after all known ones");
        push(&mut ranges, first, answer(action));
    }
    push(&mut ranges, X32, answer(beyond_rules(policy.default)));
    ranges
}

/// The answer to calls that rules cannot name. A policy that forbids some calls must not let them through under other
/// numbers.
fn beyond_rules(default: Action) -> Action {
    match default {
        Action::Allow | Action::Log | Action::Trace(_) => Action::Errno(libc::ENOSYS as u16),
        refusing => refusing,
    }
}

fn push(ranges: &mut Vec<Range>, first: u32, code: Vec<sock_filter>) {
    if ranges.last().is_some_and(|last| last.first == first) {
        ranges.pop();
    }
    if ranges.last().is_none_or(|last| !same(&last.code, &code)) {
        ranges.push(Range { first, code });
    }
}

fn same(a: &[sock_filter], b: &[sock_filter]) -> bool {
    let key = |i: &sock_filter| (i.code, i.jt, i.jf, i.k);
    a.iter().map(key).eq(b.iter().map(key))
}

fn search(ranges: &[Range]) -> Vec<sock_filter> {
    if let [only] = ranges {
        return only.code.clone();
    }
    let middle = ranges.len() / 2;
    let (below, above) = (search(&ranges[..middle]), search(&ranges[middle..]));
    let mut code = match u8::try_from(below.len()) {
        Ok(skip) => vec![branch(IF_AT_LEAST, ranges[middle].first, skip, 0)],
        // Conditional jumps reach 255 instructions, unconditional ones any distance.
        Err(_) => vec![
            branch(IF_AT_LEAST, ranges[middle].first, 0, 1),
            statement(JUMP, u32::try_from(below.len()).expect("programs are short")),
        ],
    };
    code.extend(below);
    code.extend(above);
    code
}

fn call_block(rules: &[&Rule], default: Action) -> Vec<sock_filter> {
    let mut code = Vec::new();
    for rule in rules {
        code.extend(rule_code(rule));
        if rule.conditions.is_empty() {
            return code; // later rules are unreachable
        }
    }
    code.push(statement(RETURN, default.encode()));
    code
}

/// Where a comparison goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Next,
    /// The condition holds: behind its last instruction.
    Holds,
    /// The rule does not match: behind the rule.
    Fails,
}

type Draft = (u16, u32, To, To);

fn rule_code(rule: &Rule) -> Vec<sock_filter> {
    let conditions: Vec<Vec<Draft>> = rule.conditions.iter().map(condition_code).collect();
    let rule_end = conditions.iter().map(Vec::len).sum::<usize>() + 1;
    let mut code = Vec::with_capacity(rule_end);
    for condition in &conditions {
        let condition_end = code.len() + condition.len();
        for (opcode, k, when_true, when_false) in condition {
            let here = code.len() + 1;
            let offset = |to: To| match to {
                To::Next => 0,
                To::Holds => u8::try_from(condition_end - here).expect("a condition is at most 6 instructions"),
                To::Fails => u8::try_from(rule_end - here).expect("a rule is at most 6 conditions"),
            };
            code.push(branch(*opcode, *k, offset(*when_true), offset(*when_false)));
        }
    }
    code.push(statement(RETURN, rule.action.encode()));
    code
}

/// 64-bit comparison by 32-bit halves, the upper half first.
fn condition_code(condition: &Condition) -> Vec<Draft> {
    use To::{Fails, Holds, Next};
    let low_offset = ARGUMENTS + 8 * u32::from(condition.argument);
    let load_high = (LOAD, low_offset + 4, Next, Next);
    let load_low = (LOAD, low_offset, Next, Next);
    let (high, low) = ((condition.value >> 32) as u32, condition.value as u32);
    let wide = condition.width == Width::Bits64;
    let mut code = Vec::with_capacity(6);
    if wide {
        code.push(load_high);
        match condition.compare {
            Compare::Equal => code.push((IF_EQUAL, high, Next, Fails)),
            Compare::NotEqual => code.push((IF_EQUAL, high, Next, Holds)),
            Compare::Greater | Compare::AtLeast => {
                code.extend([(IF_GREATER, high, Holds, Next), (IF_EQUAL, high, Next, Fails)]);
            }
            Compare::Less | Compare::AtMost => {
                code.extend([(IF_GREATER, high, Fails, Next), (IF_EQUAL, high, Next, Holds)]);
            }
            Compare::MaskedEqual { mask } => {
                let mask = (mask >> 32) as u32;
                code.extend([(AND, mask, Next, Next), (IF_EQUAL, high & mask, Next, Fails)]);
            }
        }
    }
    code.push(load_low);
    match condition.compare {
        Compare::Equal => code.push((IF_EQUAL, low, Holds, Fails)),
        Compare::NotEqual => code.push((IF_EQUAL, low, Fails, Holds)),
        Compare::Greater => code.push((IF_GREATER, low, Holds, Fails)),
        Compare::AtLeast => code.push((IF_AT_LEAST, low, Holds, Fails)),
        Compare::Less => code.push((IF_AT_LEAST, low, Fails, Holds)),
        Compare::AtMost => code.push((IF_GREATER, low, Fails, Holds)),
        Compare::MaskedEqual { mask } => {
            let mask = mask as u32;
            code.extend([(AND, mask, Next, Next), (IF_EQUAL, low & mask, Holds, Fails)]);
        }
    }
    code
}

fn answer(action: Action) -> Vec<sock_filter> {
    vec![statement(RETURN, action.encode())]
}

fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the kernel's interpreter would answer.
    fn run(program: &[sock_filter], arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(number.to_le_bytes());
        data.extend(arch.to_le_bytes());
        data.extend(0u64.to_le_bytes());
        arguments
            .iter()
            .for_each(|argument| data.extend(argument.to_le_bytes()));
        let (mut at, mut accumulator) = (0usize, 0u32);
        loop {
            let instruction = program[at];
            at += 1;
            let choose = |holds: bool| usize::from(if holds { instruction.jt } else { instruction.jf });
            match instruction.code {
                LOAD => {
                    let offset = instruction.k as usize;
                    accumulator = u32::from_le_bytes(data[offset..offset + 4].try_into().expect("four bytes"));
                }
                AND => accumulator &= instruction.k,
                JUMP => at += instruction.k as usize,
                IF_EQUAL => at += choose(accumulator == instruction.k),
                IF_GREATER => at += choose(accumulator > instruction.k),
                IF_AT_LEAST => at += choose(accumulator >= instruction.k),
                RETURN => return instruction.k,
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    /// The meaning of a policy, written the slow and obvious way.
    fn evaluate(policy: &Policy, number: u32, arguments: [u64; 6]) -> Action {
        let holds = |condition: &Condition| {
            let cut = |value: u64| {
                if condition.width == Width::Bits32 {
                    value & 0xffff_ffff
                } else {
                    value
                }
            };
            let (actual, value) = (cut(arguments[usize::from(condition.argument)]), cut(condition.value));
            match condition.compare {
                Compare::Equal => actual == value,
                Compare::NotEqual => actual != value,
                Compare::Greater => actual > value,
                Compare::AtLeast => actual >= value,
                Compare::Less => actual < value,
                Compare::AtMost => actual <= value,
                Compare::MaskedEqual { mask } => actual & cut(mask) == value & cut(mask),
            }
        };
        let matching = policy
            .rules
            .iter()
            .find(|rule| rule.syscall == number && rule.conditions.iter().all(holds));
        match (matching, policy.unknown) {
            (Some(rule), _) => rule.action,
            (None, _) if number >= X32 => beyond_rules(policy.default),
            (None, Some((first, action))) if number >= first => action,
            (None, _) => policy.default,
        }
    }

    fn interesting() -> impl Strategy<Value = u64> {
        prop_oneof![
            0..4u64,
            (0..4u64).prop_map(|n| n << 32),
            Just(u64::MAX),
            Just(0xffff_ffff),
            any::<u64>()
        ]
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            Just(Action::Allow),
            (0..200u16).prop_map(Action::Errno),
            Just(Action::Trap),
            Just(Action::Log)
        ]
    }

    fn condition() -> impl Strategy<Value = Condition> {
        let compare = prop_oneof![
            Just(Compare::Equal),
            Just(Compare::NotEqual),
            Just(Compare::Greater),
            Just(Compare::AtLeast),
            Just(Compare::Less),
            Just(Compare::AtMost),
            interesting().prop_map(|mask| Compare::MaskedEqual { mask }),
        ];
        let width = prop_oneof![Just(Width::Bits32), Just(Width::Bits64)];
        (0..6u8, compare, interesting(), width).prop_map(|(argument, compare, value, width)| Condition {
            argument,
            compare,
            value,
            width,
        })
    }

    fn policy() -> impl Strategy<Value = Policy> {
        let rule = (0..400u32, proptest::collection::vec(condition(), 0..4), action()).prop_map(
            |(syscall, conditions, action)| Rule {
                syscall,
                conditions,
                action,
            },
        );
        (
            action(),
            proptest::option::of(action()),
            proptest::collection::vec(rule, 0..120),
        )
            .prop_map(|(default, unknown, rules)| Policy {
                default,
                unknown: unknown.map(|action| (400, action)),
                rules,
            })
    }

    proptest! {
        #[test]
        fn the_program_means_what_the_policy_says(
            policy in policy(),
            number in prop_oneof![4 => 0..410u32, 1 => Just(0x4000_0001u32), 1 => any::<u32>()],
            arguments in proptest::array::uniform6(interesting()),
        ) {
            let Ok(program) = compile(&policy) else { return Ok(()) };
            // Aim at a rule as often as not: a random number seldom has one.
            let aimed = policy.rules.get(number as usize % (policy.rules.len() + 1)).map_or(number, |r| r.syscall);
            for number in [number, aimed] {
                let expected = evaluate(&policy, number, arguments).encode();
                prop_assert_eq!(run(&program, AUDIT_ARCH, number, arguments), expected);
            }
        }
    }

    #[test]
    fn another_architecture_is_killed() {
        let policy = Policy {
            default: Action::Allow,
            unknown: None,
            rules: Vec::new(),
        };
        let program = compile(&policy).expect("short");
        assert_eq!(run(&program, 0x4000_0003, 1, [0; 6]), Action::KillProcess.encode());
    }

    #[test]
    fn a_forbidden_call_is_forbidden_under_its_x32_number_too() {
        let rule = Rule {
            syscall: 39,
            conditions: Vec::new(),
            action: Action::KillProcess,
        };
        let policy = Policy {
            default: Action::Allow,
            unknown: None,
            rules: vec![rule],
        };
        let program = compile(&policy).expect("short");
        assert_eq!(run(&program, AUDIT_ARCH, 40, [0; 6]), Action::Allow.encode());
        let refused = Action::Errno(libc::ENOSYS as u16).encode();
        assert_eq!(run(&program, AUDIT_ARCH, X32 | 39, [0; 6]), refused);
    }

    #[test]
    fn sockets_of_two_families_are_refused() {
        let policy = super::super::policy::runtime_default(crate::privilege::CapabilitySet::container_default());
        let program = compile(&policy).expect("short");
        let socket = u32::try_from(libc::SYS_socket).expect("small");
        let answer = |family: u64| run(&program, AUDIT_ARCH, socket, [family, 1, 0, 0, 0, 0]);
        let (allowed, refused) = (Action::Allow.encode(), Action::Errno(libc::EPERM as u16).encode());
        for family in [1, 2, 10, 16, 17, 37, 39, 41] {
            assert_eq!(answer(family), allowed, "family {family}");
        }
        // Garbage in the half that the kernel does not read makes no difference.
        for family in [38, 40, 0x1_0000_0026] {
            assert_eq!(answer(family), refused, "family {family}");
        }
    }

    #[test]
    fn programs_have_a_largest_size() {
        let condition = Condition {
            argument: 0,
            compare: Compare::Greater,
            value: 1,
            width: Width::Bits64,
        };
        let rule = Rule {
            syscall: 1,
            conditions: vec![condition; 6],
            action: Action::Allow,
        };
        let policy = Policy {
            default: Action::Errno(1),
            unknown: None,
            rules: vec![rule; 200],
        };
        assert!(compile(&policy).is_err());
    }

    #[test]
    fn the_default_policy_is_small_and_exact() {
        let policy = super::super::policy::runtime_default(crate::privilege::CapabilitySet::container_default());
        let program = compile(&policy).expect("short");
        assert!(program.len() < 400, "{} instructions", program.len());
        for number in (0..600).chain(0x4000_0000..0x4000_0200) {
            for argument in [0, 8, 40, 0xffff_ffff, 0x1_0000_0028, 0x0002_0000] {
                let arguments = [argument, 0, 0, 0, 0, 0];
                let expected = evaluate(&policy, number, arguments).encode();
                assert_eq!(run(&program, AUDIT_ARCH, number, arguments), expected, "call {number}");
            }
        }
    }
}
