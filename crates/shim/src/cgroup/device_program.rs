//! Device rules on v2: a small BPF program per group, since v2 has no device files.
//!
//! The kernel runs it on every open and mknod with `struct bpf_cgroup_dev_ctx { access_type, major, minor }`, where
//! `access_type` is `access << 16 | type`. OCI rules apply in order and a later one overrides, so the program tries them
//! from last to first; the first that matches decides, and nothing matching means no.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use std::fs;
use std::io;
use std::path::Path;

const TYPE_BLOCK: i32 = 1;
const TYPE_CHAR: i32 = 2;
const ACCESS_MKNOD: i32 = 1;
const ACCESS_READ: i32 = 2;
const ACCESS_WRITE: i32 = 4;
const ACCESS_ALL: i32 = 7;

/// Registers, by what the program keeps in them.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

/// One instruction, `struct bpf_insn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    pub(crate) code: u8,
    /// Destination in the low, source in the high four bits.
    pub(crate) registers: u8,
    pub(crate) offset: i16,
    pub(crate) immediate: i32,
}

pub(super) fn attach(dir: &Path, rules: &[LinuxDeviceCgroup]) -> io::Result<()> {
    let group = fs::File::open(dir)?;
    crate::sys::attach_device_program(&group, &program(rules))
}

pub(super) fn program(rules: &[LinuxDeviceCgroup]) -> Vec<Instruction> {
    let mut code = vec![
        load_word(KIND, 0),
        move_register(ACCESS, KIND),
        alu_immediate(0x57, KIND, 0xffff),
        alu_immediate(0x77, ACCESS, 16),
        load_word(MAJOR, 4),
        load_word(MINOR, 8),
    ];
    for rule in rules.iter().rev() {
        let mut tests = tests_of(rule);
        let decides_always = tests.is_empty();
        // Each conditional jump leads past this rule's verdict (two instructions).
        let length = tests.len();
        for (index, instruction) in tests.iter_mut().enumerate() {
            if instruction.code & 0x07 == 0x05 {
                instruction.offset = i16::try_from(length - index - 1 + 2).unwrap_or(i16::MAX);
            }
        }
        code.append(&mut tests);
        code.extend(verdict(rule.allow()));
        if decides_always {
            // The verifier refuses what cannot be reached.
            return code;
        }
    }
    code.extend(verdict(false));
    code
}

/// Conditional jumps taken when the rule does *not* match.
fn tests_of(rule: &LinuxDeviceCgroup) -> Vec<Instruction> {
    let mut tests = Vec::new();
    match rule.typ().unwrap_or(LinuxDeviceType::A) {
        LinuxDeviceType::A => {}
        LinuxDeviceType::B => tests.push(unless_equal(KIND, TYPE_BLOCK)),
        _ => tests.push(unless_equal(KIND, TYPE_CHAR)),
    }
    let access = access_bits(rule.access().as_deref().unwrap_or("rwm"));
    if access != ACCESS_ALL {
        tests.push(move_register(SCRATCH, ACCESS));
        tests.push(alu_immediate(0x57, SCRATCH, access));
        // Allowing needs every wanted access to be in the rule; forbidding needs one.
        tests.push(if rule.allow() {
            unless_same(SCRATCH, ACCESS)
        } else {
            if_equal(SCRATCH, 0)
        });
    }
    let numbers = [(MAJOR, rule.major()), (MINOR, rule.minor())];
    for (register, number) in numbers {
        if let Some(number) = number
            .and_then(|number| i32::try_from(number).ok())
            .filter(|number| *number >= 0)
        {
            tests.push(unless_equal(register, number));
        }
    }
    tests
}

fn access_bits(access: &str) -> i32 {
    let bit = |letter| match letter {
        'r' => ACCESS_READ,
        'w' => ACCESS_WRITE,
        'm' => ACCESS_MKNOD,
        _ => 0,
    };
    let bits = access.chars().fold(0, |bits, letter| bits | bit(letter));
    if bits == 0 { ACCESS_ALL } else { bits }
}

fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: destination | source << 4,
        offset,
        immediate,
    }
}

fn load_word(destination: u8, offset: i16) -> Instruction {
    instruction(0x61, destination, CONTEXT, offset, 0)
}

fn move_register(destination: u8, source: u8) -> Instruction {
    instruction(0xbf, destination, source, 0, 0)
}

fn alu_immediate(code: u8, destination: u8, immediate: i32) -> Instruction {
    instruction(code, destination, 0, 0, immediate)
}

fn unless_equal(register: u8, immediate: i32) -> Instruction {
    instruction(0x55, register, 0, 0, immediate)
}

fn if_equal(register: u8, immediate: i32) -> Instruction {
    instruction(0x15, register, 0, 0, immediate)
}

fn unless_same(register: u8, other: u8) -> Instruction {
    instruction(0x5d, register, other, 0, 0)
}

fn verdict(allow: bool) -> [Instruction; 2] {
    [
        instruction(0xb7, RESULT, 0, 0, i32::from(allow)),
        instruction(0x95, 0, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the few instructions the compiler above emits.
    fn run(code: &[Instruction], kind: i32, access: i32, major: i32, minor: i32) -> bool {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0_i64; 16];
        let mut at = 0_usize;
        loop {
            let step = code[at];
            let (to, from) = (usize::from(step.registers & 15), usize::from(step.registers >> 4));
            let immediate = i64::from(step.immediate);
            at += 1;
            let jump = match step.code {
                0x61 => {
                    registers[to] = i64::from(context[usize::try_from(step.offset).unwrap() / 4]);
                    false
                }
                0xbf => {
                    registers[to] = registers[from];
                    false
                }
                0x57 => {
                    registers[to] &= immediate;
                    false
                }
                0x77 => {
                    registers[to] >>= immediate;
                    false
                }
                0xb7 => {
                    registers[to] = immediate;
                    false
                }
                0x55 => registers[to] != immediate,
                0x15 => registers[to] == immediate,
                0x5d => registers[to] != registers[from],
                0x95 => return registers[0] == 1,
                other => panic!("unknown instruction {other:#x}"),
            };
            if jump {
                at += usize::try_from(step.offset).unwrap();
            }
        }
    }

    fn rules(json: &str) -> Vec<Instruction> {
        program(&serde_json::from_str::<Vec<LinuxDeviceCgroup>>(json).unwrap())
    }

    #[test]
    fn later_rules_override_and_unmatched_is_denied() {
        let code = rules(
            r#"[{"allow": false, "access": "rwm"},
                {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"},
                {"allow": true, "type": "c", "access": "m"},
                {"allow": true, "type": "b", "major": 8},
                {"allow": false, "type": "b", "major": 8, "minor": 1, "access": "w"}]"#,
        );
        assert!(run(&code, TYPE_CHAR, ACCESS_READ | ACCESS_WRITE, 1, 3));
        assert!(!run(&code, TYPE_CHAR, ACCESS_READ | ACCESS_MKNOD, 1, 3));
        assert!(run(&code, TYPE_CHAR, ACCESS_MKNOD, 9, 9));
        assert!(!run(&code, TYPE_CHAR, ACCESS_READ, 1, 5));
        assert!(run(&code, TYPE_BLOCK, ACCESS_ALL, 8, 0));
        assert!(!run(&code, TYPE_BLOCK, ACCESS_READ | ACCESS_WRITE, 8, 1));
        assert!(run(&code, TYPE_BLOCK, ACCESS_READ, 8, 1));
    }

    #[test]
    fn allow_all_has_no_unreachable_tail() {
        let code = rules(r#"[{"allow": false, "access": "rwm"}, {"allow": true, "type": "a", "access": "rwm"}]"#);
        assert!(run(&code, TYPE_BLOCK, ACCESS_ALL, 8, 0));
        assert_eq!(code.len(), 8);
    }
}
