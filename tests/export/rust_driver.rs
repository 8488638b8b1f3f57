//! Answers questions about areas that stand on standard input, as tests/random_areas.py asks them,
//! by the crate that is under test. Integers are little-endian.

mod places;

use std::io::{Read, Write};
use xsave::{
    check, models, relayout, to_compacted, to_standard, Area, Error, Layout, Leaf, Mask, Restore,
    Software, Target, Value, COMPONENTS, EXTENDED_OFFSET,
};

const UNTOUCHED: u8 = 0xee;

struct Question<'a> {
    op: u8,
    model: usize,
    keep: bool,
    target: u8,
    numbers: [u64; 5],
    room: usize,
    data: &'a [u8],
}

struct Answer(u8, u64, u64, Vec<u8>);

fn main() {
    places::hold();
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input).unwrap();
    let mut output = Vec::new();
    let mut rest = &input[..];
    while !rest.is_empty() {
        let (head, behind) = rest.split_at(52);
        let size = u32::read(&head[48..]).unwrap() as usize;
        let (data, behind) = behind.split_at(size);
        rest = behind;
        let question = Question {
            op: head[0],
            model: usize::from(head[1]),
            keep: head[2] != 0,
            target: head[3],
            numbers: [4, 12, 20, 28, 36].map(|at| u64::read(&head[at..]).unwrap()),
            room: u32::read(&head[44..]).unwrap() as usize,
            data,
        };
        let Answer(fault, first, second, bytes) = answer(&question);
        output.push(fault);
        output.extend_from_slice(&first.to_le_bytes());
        output.extend_from_slice(&second.to_le_bytes());
        output.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        output.extend_from_slice(&bytes);
    }
    std::io::stdout().write_all(&output).unwrap();
}

fn answer(question: &Question) -> Answer {
    let leaf = &models::ALL[question.model].1;
    match question.op {
        0 | 1 => converted(leaf, question),
        2 => checked(leaf, question),
        3 => enumerated(leaf, question),
        _ => read(leaf, question),
    }
}

fn converted(leaf: &Leaf, question: &Question) -> Answer {
    let mut out = vec![UNTOUCHED; question.room];
    let [mask, drop, other, ..] = question.numbers.map(Mask);
    let software = if question.keep {
        Software::Keep
    } else {
        Software::Zero
    };
    let (data, standard) = (question.data, question.op == 0);
    let done = if other.0 as usize != question.model {
        let target = &models::ALL[other.0 as usize].1;
        let to = if standard {
            Layout::Standard(mask)
        } else {
            Layout::Compacted(mask)
        };
        relayout(leaf, target, data, &mut out, to, drop, software)
    } else if standard {
        to_standard(leaf, data, &mut out, mask, drop, software)
    } else {
        to_compacted(leaf, data, &mut out, mask, drop, software)
    };
    if done.is_err() {
        assert!(out.iter().all(|&byte| byte == UNTOUCHED), "written to");
    }
    match done {
        Ok(done) => Answer(0, done.dropped.0, done.size as u64, out),
        Err(error) => failed(error, mask),
    }
}

fn failed(error: Error, mask: Mask) -> Answer {
    assert!(!error.to_string().is_empty());
    match error {
        Error::TooShort { needed } => Answer(1, needed as u64, 0, vec![]),
        Error::Header(rule) => Answer(2, 0, 0, rule.name().into()),
        Error::Mask(misfits) => {
            assert!(!misfits.is_empty() && misfits.without(mask).is_empty());
            Answer(3, 0, 0, vec![])
        }
        Error::Lost(lost) => Answer(4, lost.0, 0, vec![]),
        Error::OutTooShort { needed } => Answer(5, needed as u64, 0, vec![]),
    }
}

fn checked(leaf: &Leaf, question: &Question) -> Answer {
    let [rfbm, xfd, address, xcr0, xss] = question.numbers;
    let target = [Target::Xrstor, Target::Xrstors, Target::Ptrace, Target::Kvm]
        [usize::from(question.target)];
    let leaf = leaf.under(Mask(xcr0), Mask(xss));
    let how = Restore {
        rfbm: Mask(rfbm),
        xfd: Mask(xfd),
        address,
        ..Restore::by(target)
    };
    match check(&leaf, question.data, &how) {
        Ok(()) => Answer(0, 0, 0, vec![]),
        Err(fault) => Answer(6, fault.offset as u64, 0, fault.rule.name().into()),
    }
}

/// Whether the leaf that is given, 63 sub-leaves, is that of the model.
fn enumerated(model: &Leaf, question: &Question) -> Answer {
    let registers = |subleaf: u32| {
        let at = 16 * subleaf as usize;
        [0, 4, 8, 12].map(|register| u32::read(&question.data[at + register..]).unwrap())
    };
    assert_eq!(question.data.len(), 16 * COMPONENTS);
    match Leaf::from_cpuid(registers, model.mxcsr_mask) {
        None => Answer(1, 0, 0, vec![]),
        Some(found) => {
            let same = found.under(model.xcr0, model.xss) == *model;
            Answer(if same { 0 } else { 2 }, found.xcr0.0, found.xss.0, vec![])
        }
    }
}

/// What an area means: XSTATE_BV, MXCSR, and each component of the CPU as it is to be read.
fn read(leaf: &Leaf, question: &Question) -> Answer {
    let area = match Area::parse(leaf, question.data) {
        Ok(area) => area,
        Err(error) => return failed(error, Mask::ALL),
    };
    let mut bytes = Vec::new();
    for number in (leaf.user() | leaf.supervisor()).numbers() {
        let size = leaf.row(number).unwrap().size();
        let mut image = vec![0; [160, 416, size][number.min(2)]];
        match area.component(number) {
            Some(stored) => image.copy_from_slice(stored),
            None => {
                image.fill(0xa5);
                xsave::write_initial(number, &mut image);
                let others: &[std::ops::Range<usize>] = match number {
                    0 => &[24..32],
                    1 => &[0..24, 28..160],
                    _ => &[],
                };
                for other in others {
                    assert!(image[other.clone()].iter().all(|&byte| byte == 0xa5));
                    image[other.clone()].fill(0);
                }
            }
        }
        bytes.extend_from_slice(&image);
    }
    assert!(question.data.len() >= EXTENDED_OFFSET);
    Answer(0, area.xstate_bv().0, u64::from(area.mxcsr()), bytes)
}
