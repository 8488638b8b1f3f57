// SPDX-License-Identifier: MIT-0

//! The implementation under test, behind the questions that the vectors ask.

use xsave::{check, to_compacted, to_standard, Area, Error, Leaf, Mask, Restore, Software, Target};

/// A CPU, by its leaf 0xD.
pub struct Cpu(Leaf);

/// What an area becomes.
#[derive(Debug, PartialEq, Eq)]
pub enum Converted {
    /// Another area.
    Area(Vec<u8>),
    /// None, without these components.
    Lost(u64),
    /// None: it is no area.
    Refused,
}

impl Cpu {
    /// Makes one of the sub-leaves (EAX, EBX, ECX, EDX) and of what is enabled.
    pub fn new(subleaves: &[[u32; 4]], xcr0: u64, xss: u64, mxcsr_mask: u32) -> Cpu {
        let leaf = Leaf::from_cpuid(|number| subleaves[number as usize], mxcsr_mask);
        let leaf = leaf.expect("the vectors have every component");
        Cpu(leaf.under(Mask(xcr0), Mask(xss)))
    }

    /// How long a standard area of all that is enabled is.
    pub fn standard_size(&self) -> Option<usize> {
        self.0.standard_size(self.0.xcr0)
    }

    /// How long a compacted area is.
    pub fn compacted_size(&self, xcomp_bv: u64) -> Option<usize> {
        self.0.compacted_size(Mask(xcomp_bv))
    }

    /// Where a component stands in it.
    pub fn offset(&self, xcomp_bv: u64, number: usize) -> Option<usize> {
        self.0.offset(Mask(xcomp_bv), number)
    }

    /// MXCSR, and the components in use; `None` for what is no area.
    pub fn meaning(&self, area: &[u8]) -> Option<(u32, u64)> {
        let area = Area::parse(&self.0, area).ok()?;
        Some((area.mxcsr(), area.xstate_bv().0))
    }

    /// The rule by which a restore refuses an area, and the byte where it is broken.
    pub fn refusal(&self, area: &[u8], target: &str) -> Option<(&'static str, usize)> {
        let target = match target {
            "xrstor" => Target::Xrstor,
            "xrstors" => Target::Xrstors,
            "ptrace" => Target::Ptrace,
            _ => panic!("nobody knows the target {}", target),
        };
        let fault = check(&self.0, area, &Restore::by(target)).err()?;
        Some((fault.rule.name(), fault.offset))
    }

    /// The area in another format, or with other components.
    pub fn convert(&self, area: &[u8], format: &str, mask: u64) -> Converted {
        let convert = match format {
            "standard" => to_standard,
            "compacted" => to_compacted,
            _ => panic!("nobody knows the format {}", format),
        };
        let mut out = vec![0xee; 1 << 15];
        match convert(
            &self.0,
            area,
            &mut out,
            Mask(mask),
            Mask::EMPTY,
            Software::Keep,
        ) {
            Ok(done) => {
                out.truncate(done.size);
                Converted::Area(out)
            }
            Err(Error::Lost(lost)) => Converted::Lost(lost.0),
            Err(_) => Converted::Refused,
        }
    }
}
