//! Junk that is written as text. Each writes at least 4 kB, a function of the seed.

use super::shuffle::below;
use isoflop_base::bits::SplitMix64;
use std::fmt::Write as _;

/// Bytes written at least.
const LEAST: usize = 4096;

/// Printable ASCII, the space with it.
pub(super) fn uniform_ascii(seed: u64, text: &mut String) {
    let mut random = SplitMix64(seed);
    let one = |_| char::from(b' ' + below(&mut random, 95) as u8);
    text.extend((0..LEAST).map(one));
}

/// Random bytes as RFC 2045 has them: lines of 76 characters.
pub(super) fn base64(seed: u64, text: &mut String) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const LINE: usize = 76;
    let mut random = SplitMix64(seed);
    for _ in 0..LEAST.div_ceil(LINE) {
        text.extend((0..LINE).map(|_| char::from(ALPHABET[(random.next_u64() >> 58) as usize])));
        text.push('\n');
    }
}

/// Elements of a page as site builders write them: class names of a framework, a few words, counted links.
pub(super) fn markup(seed: u64, text: &mut String) {
    const WORDS: [&str; 24] = [
        "home",
        "about",
        "contact",
        "products",
        "services",
        "support",
        "news",
        "blog",
        "login",
        "search",
        "account",
        "help",
        "events",
        "careers",
        "press",
        "privacy",
        "terms",
        "cookies",
        "sitemap",
        "archive",
        "gallery",
        "team",
        "partners",
        "downloads",
    ];
    let mut random = SplitMix64(seed);
    let end = text.len() + LEAST;
    while text.len() < end {
        let mut word = || WORDS[below(&mut random, WORDS.len() as u64) as usize];
        let (section, first) = (word(), word());
        match below(&mut random, 4) {
            0 => {
                let _ = writeln!(
                    text,
                    "<nav class=\"navbar navbar-expand-lg navbar-light bg-light\" id=\"nav-{section}\">"
                );
                text.push_str("  <ul class=\"navbar-nav mr-auto\">\n");
                for _ in 0..3 + below(&mut random, 4) {
                    let word = WORDS[below(&mut random, WORDS.len() as u64) as usize];
                    let _ = writeln!(
                        text,
                        "    <li class=\"nav-item\"><a class=\"nav-link\" href=\"/{word}/index.html\">{word}</a></li>"
                    );
                }
                text.push_str("  </ul>\n</nav>\n");
            }
            1 => {
                let _ = write!(
                    text,
                    "<div class=\"card mb-3\">\n  <div class=\"card-header\">{first}</div>\n  <div class=\"card-body\">\n    \
                     <p class=\"card-text\"></p>\n    <a href=\"/{section}/{}\" class=\"btn btn-primary\">{first}</a>\n  \
                     </div>\n</div>\n",
                    below(&mut random, 100)
                );
            }
            2 => {
                let _ = writeln!(
                    text,
                    "<form action=\"/{section}/\" method=\"post\" class=\"form-inline my-2\">"
                );
                let _ = write!(
                    text,
                    "  <input class=\"form-control mr-sm-2\" type=\"text\" name=\"{first}\" placeholder=\"{first}\">\n  \
                     <button class=\"btn btn-outline-success\" type=\"submit\">{section}</button>\n</form>\n"
                );
            }
            _ => {
                let _ = writeln!(text, "<table class=\"table table-striped table-hover\" id=\"{section}\">");
                for _ in 0..2 + below(&mut random, 3) {
                    let _ = writeln!(
                        text,
                        "  <tr><td class=\"text-left\">{first}</td><td class=\"text-right\">{}</td></tr>",
                        below(&mut random, 100)
                    );
                }
                text.push_str("</table>\n");
            }
        }
    }
}
