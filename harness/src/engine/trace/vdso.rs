//! Clocks without a stop: the functions of a program's vDSO (vdso(7)) show virtual time.
//!
//! ```text
//! vDSO image:  headers, symbols   clock_gettime: jmp ─┐   unused bytes up to the end of its page
//!                                 gettimeofday:  jmp ─┼─> clock page (see `arch_x86_64`)
//! ```
//!
//! A process that reads the clock reads three numbers in its own memory, which the supervisor
//! rewrites whenever time moves. That happens while the process stands still, and each number is
//! one aligned word, so no read is torn.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSymbol};

use super::arch_x86_64::{CLOCK_FUNCTIONS, CLOCK_PAGE, jump};

/// What a clock page shows: REALTIME, MONOTONIC and BOOTTIME in nanoseconds, and whether every
/// read shall be a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) clocks: [u64; 3],
    pub(crate) traps: bool,
}

impl Shown {
    /// The head of a clock page.
    pub(crate) fn bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let words = self.clocks.into_iter().chain([u64::from(self.traps)]);
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

/// The vDSO of this machine's kernel, changed.
#[derive(Debug)]
pub(crate) struct Vdso {
    image: Vec<u8>,
    page: usize,
}

impl Vdso {
    /// Reads and changes a copy of the one that this process has: every program gets the same.
    ///
    /// # Errors
    /// It lacks a clock function or the room for a clock page.
    pub(crate) fn of_this_kernel() -> io::Result<Vdso> {
        let maps = std::fs::read_to_string("/proc/self/maps")?;
        let odd = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let line = maps.lines().find(|line| line.ends_with("[vdso]"));
        let range = line.and_then(|line| line.split_whitespace().next()?.split_once('-'));
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let range = range.and_then(|(from, to)| Some((hex(from)?, hex(to)?)));
        let (from, to) = range.ok_or_else(|| odd("this kernel has no vDSO"))?;
        let mut image = vec![0; usize::try_from(to - from).map_err(|_| odd("it is too large"))?];
        File::open("/proc/self/mem")?.read_exact_at(&mut image, from)?;
        Vdso::change(image).ok_or_else(|| odd("this kernel's vDSO is of an unknown form"))
    }

    fn change(mut image: Vec<u8>) -> Option<Vdso> {
        let used = image.iter().rposition(|byte| *byte != 0)? + 1;
        let page = used.next_multiple_of(64);
        let end = page.checked_add(CLOCK_PAGE.len()).filter(|end| *end <= image.len())?;
        let jumps = {
            let elf = ElfFile64::<Endianness>::parse(&*image).ok()?;
            let mut jumps = Vec::new();
            for (name, target) in CLOCK_FUNCTIONS {
                let symbol = elf.dynamic_symbols().find(|symbol| symbol.name() == Ok(name));
                let Some(symbol) = symbol else { continue };
                let place = usize::try_from(symbol.address()).ok()?;
                let jump = jump(place, page + target)?;
                if symbol.size() < jump.len() as u64 {
                    return None;
                }
                jumps.push((place, jump));
            }
            jumps
        };
        // Without this one the others are of no use; a kernel may lack getrandom, or time.
        let first = CLOCK_FUNCTIONS.first()?.1;
        let goes_first =
            |(place, code): &(usize, [u8; 5])| jump(*place, page + first) == Some(*code);
        if !jumps.iter().any(goes_first) {
            return None;
        }
        for (place, jump) in jumps {
            image.get_mut(place..place + jump.len())?.copy_from_slice(&jump);
        }
        image.get_mut(page..end)?.copy_from_slice(&CLOCK_PAGE);
        Some(Vdso { image, page })
    }

    /// Puts it into a program whose vDSO begins at `base`; gives where its clock page is.
    pub(crate) fn install(&self, memory: &File, base: u64, shown: Shown) -> io::Result<u64> {
        memory.write_all_at(&self.image, base)?;
        let page = base + self.page as u64;
        memory.write_all_at(&shown.bytes(), page)?;
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernels_vdso_can_be_changed() {
        let vdso = Vdso::of_this_kernel().expect("tests run where the engine runs");
        assert_eq!(vdso.image[vdso.page..vdso.page + CLOCK_PAGE.len()], CLOCK_PAGE);
        // Still a library in which a program finds the functions.
        let elf = ElfFile64::<Endianness>::parse(&*vdso.image).expect("it is an ELF file");
        let symbol = elf.dynamic_symbols().find(|s| s.name() == Ok("__vdso_clock_gettime"));
        let place = usize::try_from(symbol.expect("it has one").address()).expect("it is small");
        assert_eq!(
            Some(vdso.image[place..place + 5].try_into().expect("5 bytes")),
            jump(place, vdso.page + 0x30)
        );
    }

    #[test]
    fn an_image_without_room_or_functions_is_refused() {
        let mut full = Vdso::of_this_kernel().expect("tests run where the engine runs").image;
        *full.last_mut().expect("it has bytes") = 1;
        assert!(Vdso::change(full).is_none(), "there is no room");
        assert!(Vdso::change(vec![0; 8192]).is_none());
        assert!(Vdso::change(b"\x7fELF".to_vec()).is_none());
    }
}
