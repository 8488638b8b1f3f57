// SPDX-License-Identifier: MIT-0

//! Asks the implementation all that vectors.txt says: a line is of the last CPU, and area, above it.

use std::path::Path;

use xsave_vectors::{Converted, Cpu};

/// What the lines so far have said.
#[derive(Default)]
struct Told {
    head: String,
    subleaves: Vec<[u32; 4]>,
    cpu: Option<Cpu>,
    name: String,
    area: Vec<u8>,
    meaning: Option<(u32, u64)>,
    pending: bool,
}

#[test]
fn every_line_holds() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/vectors.txt");
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {}; see README.md", path.display(), error));
    let (mut told, mut held) = (Told::default(), 0);
    for (at, line) in text.lines().enumerate() {
        if line.starts_with('#') {
            continue;
        }
        if let Err(said) = told.line(line) {
            let cut: String = line.chars().take(120).collect();
            panic!("line {}, {}: {}\n{}", at + 1, told.name, said, cut);
        }
        held += 1;
    }
    told.settle().unwrap();
    assert!(held > 100, "{} lines are no vectors", held);
    println!("{} lines hold", held);
}

impl Told {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split(' ').collect();
        let rest = &words[1..];
        if self.cpu.is_none() && words[0] != "cpu" && words[0] != "leaf" {
            self.make()?;
        }
        let cpu = self.cpu.as_ref();
        match words[0] {
            "cpu" => {
                self.settle()?;
                self.head = line.to_string();
                self.subleaves = vec![[0; 4]; 63];
                self.cpu = None;
                Ok(())
            }
            "leaf" => {
                let registers = [1, 2, 3, 4].map(|at| hex(rest[at]) as u32);
                self.subleaves[number(rest[0])] = registers;
                Ok(())
            }
            "walk" => self.walk(rest),
            "area" => {
                self.settle()?;
                self.name = rest[0].to_string();
                self.area = image(&rest[1..]);
                self.meaning = None;
                self.pending = true;
                Ok(())
            }
            "means" => {
                self.meaning = Some((hex(rest[0]) as u32, numbers(rest[1])));
                Ok(())
            }
            "check" => {
                let found = cpu.unwrap().refusal(&self.area, rest[0]);
                let found = found.map(|(rule, at)| format!("{}@{}", rule, at));
                same(found.as_deref().unwrap_or("-"), rest[1])
            }
            "to" => {
                let found = cpu.unwrap().convert(&self.area, rest[0], hex(rest[1]));
                match found {
                    Converted::Area(found) => {
                        let wanted = image(&rest[2..]);
                        let same = found.iter().zip(&wanted).take_while(|(a, b)| a == b);
                        match same.count() {
                            at if at == wanted.len() && at == found.len() => Ok(()),
                            at => Err(format!("it differs at byte {}", at)),
                        }
                    }
                    found => Err(format!("it is {:?}", found)),
                }
            }
            "lost" => {
                let found = cpu.unwrap().convert(&self.area, rest[0], hex(rest[1]));
                let wanted = match rest[2] {
                    "-" => Converted::Refused,
                    lost => Converted::Lost(numbers(lost)),
                };
                same(&found, &wanted)
            }
            word => Err(format!("nobody knows lines of {}", word)),
        }
    }

    /// The CPU, when all of its leaf is told.
    fn make(&mut self) -> Result<(), String> {
        let words: Vec<&str> = self.head.split(' ').collect();
        self.name = words[1].to_string();
        let mxcsr_mask = hex(words[4]) as u32;
        let cpu = Cpu::new(&self.subleaves, hex(words[2]), hex(words[3]), mxcsr_mask);
        same(&cpu.standard_size(), &Some(number(words[5])))?;
        self.cpu = Some(cpu);
        Ok(())
    }

    fn walk(&self, rest: &[&str]) -> Result<(), String> {
        let xcomp_bv = hex(rest[0]);
        let cpu = self.cpu.as_ref().unwrap();
        same(&cpu.compacted_size(xcomp_bv), &Some(number(rest[1])))?;
        let mut places = rest[2..].iter().map(|place| place.split_once(':').unwrap());
        for component in 0..63 {
            let wanted = match xcomp_bv >> component & 1 {
                0 => None,
                _ => places.next().map(|(_, at)| number(at)),
            };
            same(&cpu.offset(xcomp_bv, component), &wanted)?;
        }
        Ok(())
    }

    /// Asks what the area means, once it is known whether a line says so.
    fn settle(&mut self) -> Result<(), String> {
        if !self.pending {
            return Ok(());
        }
        self.pending = false;
        let cpu = self.cpu.as_ref().unwrap();
        same(&cpu.meaning(&self.area), &self.meaning)
    }
}

fn same<T: PartialEq + std::fmt::Debug + ?Sized>(found: &T, wanted: &T) -> Result<(), String> {
    if found == wanted {
        Ok(())
    } else {
        Err(format!("it is {:?}, not {:?}", found, wanted))
    }
}

fn hex(word: &str) -> u64 {
    u64::from_str_radix(word.trim_start_matches("0x"), 16).unwrap()
}

fn number(word: &str) -> usize {
    word.parse().unwrap()
}

/// Numbers of components as a mask.
fn numbers(word: &str) -> u64 {
    let listed = word.split(',').filter(|&word| word != "-");
    listed.map(|word| 1 << number(word)).sum()
}

/// So many zeros, with some runs of bytes in them.
fn image(words: &[&str]) -> Vec<u8> {
    let mut bytes = vec![0; number(words[0])];
    for run in &words[1..] {
        let (at, run) = run.split_once(':').unwrap();
        let at = number(at);
        for (byte, place) in bytes[at..at + run.len() / 2].iter_mut().zip(0..) {
            *byte = u8::from_str_radix(&run[2 * place..2 * place + 2], 16).unwrap();
        }
    }
    bytes
}
