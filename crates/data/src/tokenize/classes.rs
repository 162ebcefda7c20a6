//! What a tokeniser's pattern asks of a character: letter, number, mark or white space, as Unicode 16.0 has them.
//!
//! The standard library's `is_alphabetic` is another set than `\p{L}` (it has marks and letter numbers), and its
//! Unicode version moves with the compiler; ids must not. `tokenize/build.py` makes the table from the one that
//! `regex` uses, which is also tiktoken's.

use std::sync::LazyLock;

/// Runs of (length in LEB128, class) over all code points.
const RUNS: &[u8] = include_bytes!("../../tokenize/unicode.classes");

/// Code points that share one row of the table.
const ROW: usize = 256;

/// A character's general category, as coarse as patterns distinguish it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Class {
    /// None of the others: punctuation, symbols, white space, controls, what is not assigned.
    Other = 0,
    /// `\p{N}`.
    Number = 1,
    /// `\p{Lu}` or `\p{Lt}`.
    Upper = 2,
    /// `\p{Ll}`.
    Lower = 3,
    /// `\p{Lm}` or `\p{Lo}`: letters without case.
    Caseless = 4,
    /// `\p{M}`.
    Mark = 5,
}

impl Class {
    fn of_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Number,
            2 => Self::Upper,
            3 => Self::Lower,
            4 => Self::Caseless,
            5 => Self::Mark,
            _ => Self::Other,
        }
    }

    /// `\p{L}`.
    pub(crate) fn is_letter(self) -> bool {
        matches!(self, Self::Upper | Self::Lower | Self::Caseless)
    }
}

/// Class of a code point: two look-ups.
pub(crate) fn class_of(code: u32) -> Class {
    static TABLE: LazyLock<Table> = LazyLock::new(|| Table::read(RUNS));
    TABLE.get(code)
}

/// `\s`, Unicode's White_Space.
pub(crate) fn is_white(code: u32) -> bool {
    matches!(code, 0x09..=0x0d | 0x20 | 0x85 | 0xa0 | 0x1680 | 0x2000..=0x200a)
        || matches!(code, 0x2028 | 0x2029 | 0x202f | 0x205f | 0x3000)
}

/// Rows of 256 classes, equal rows kept once.
struct Table {
    row_of: Vec<u8>,
    rows: Vec<[Class; ROW]>,
}

impl Table {
    fn read(runs: &[u8]) -> Self {
        let mut classes = Vec::with_capacity(0x11_0000);
        let mut at = 0;
        while at < runs.len() {
            let (mut length, mut shift) = (0, 0);
            loop {
                let byte = runs[at];
                at += 1;
                length |= usize::from(byte & 127) << shift;
                shift += 7;
                if byte < 128 {
                    break;
                }
            }
            classes.resize(classes.len() + length, Class::of_byte(runs[at]));
            at += 1;
        }
        let mut table = Self { row_of: Vec::new(), rows: Vec::new() };
        for row in classes.chunks_exact(ROW) {
            let known = table.rows.iter().position(|r| r == row).unwrap_or_else(|| {
                table.rows.push(row.try_into().expect("a row is 256 classes"));
                table.rows.len() - 1
            });
            table.row_of.push(u8::try_from(known).expect("Unicode has fewer than 256 different rows"));
        }
        table
    }

    fn get(&self, code: u32) -> Class {
        let code = code as usize;
        match self.row_of.get(code / ROW) {
            Some(&row) => self.rows[usize::from(row)][code % ROW],
            None => Class::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_has_the_class_that_the_regex_crate_gives_it() {
        let known = [
            ("N", Class::Number),
            ("Lu", Class::Upper),
            ("Lt", Class::Upper),
            ("Ll", Class::Lower),
            ("Lm", Class::Caseless),
            ("Lo", Class::Caseless),
            ("M", Class::Mark),
        ];
        let mut expected = vec![Class::Other; 0x11_0000];
        let ranges = |pattern: &str| {
            let hir = regex_syntax::parse(pattern).unwrap();
            let regex_syntax::hir::HirKind::Class(regex_syntax::hir::Class::Unicode(class)) =
                hir.kind().clone()
            else {
                panic!("{pattern} is no class")
            };
            class.ranges().to_vec()
        };
        for (name, class) in known {
            for range in ranges(&format!(r"\p{{{name}}}")) {
                expected[range.start() as usize..=range.end() as usize].fill(class);
            }
        }
        for (code, &class) in (0..).zip(&expected) {
            assert_eq!(class_of(code), class, "U+{code:04X}");
        }
        let white = ranges(r"\s");
        for code in (0..0x11_0000).filter_map(char::from_u32) {
            assert_eq!(
                is_white(code.into()),
                white.iter().any(|r| (r.start()..=r.end()).contains(&code)),
                "{code:?}"
            );
        }
        assert_eq!(class_of(0x20_0000), Class::Other);
    }
}
