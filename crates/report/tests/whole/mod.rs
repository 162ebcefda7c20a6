//! What holds for any page: well-formed, ids once, no number that is none.

/// Elements that have no end tag.
const VOID: [&str; 3] = ["meta", "br", "!doctype"];

/// Checks that every element is closed in order, that no id is given twice, and that no number is NaN or infinite;
/// what scripts and style sheets hold is not looked at.
pub(crate) fn check(html: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut ids: Vec<&str> = Vec::new();
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        // The reason for leaving a row out may name the value that is none.
        let text =
            rest[..start].replace("NaN is not a positive number", "").replace("inf is not a positive", "");
        assert!(!text.contains("NaN") && !text.contains("inf "), "{text}");
        let end = start + rest[start..].find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        assert!(!tag.contains('<'), "a tag inside a tag: <{tag}>");
        assert!(tag.matches('"').count().is_multiple_of(2), "unbalanced quotes: <{tag}>");
        assert!(!tag.contains("NaN") && !tag.contains("inf\"") && !tag.contains("inf,"), "<{tag}>");
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "…{}", &rest[..rest.len().min(80)]);
            continue;
        }
        let name = tag.split([' ', '/']).next().unwrap_or("");
        ids.extend(tag.split(" id=\"").nth(1).and_then(|t| t.split('"').next()));
        if tag.ends_with('/') || VOID.contains(&name) {
            continue;
        }
        open.push(name);
        if matches!(name, "script" | "style") {
            let close = rest.find(&format!("</{name}>")).expect("a script or a sheet ends");
            rest = &rest[close..];
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "an id is given twice");
}
