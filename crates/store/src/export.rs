//! Points and curves as text other programs read.

use isoflop_base::columns::{Cell, Frame, Kind};
use serde_json::{Map, Value};

/// A CSV table: a header of the column names, a line per row, quotes where RFC 4180 asks for them.
pub fn csv(frame: &Frame) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header = frame.columns.iter().map(|(name, _)| name);
    writer.write_record(header).expect("a vector takes all that is written");
    for row in &frame.rows {
        let cells = row.iter().map(Cell::to_string);
        writer
            .write_record(cells)
            .expect("a vector takes all that is written, and rows are as wide as the header");
    }
    writer.into_inner().expect("a vector takes all that is written")
}

/// One JSON object a line, a member per column; what is not there is `null`.
pub fn json_lines(frame: &Frame) -> Vec<u8> {
    let object = |row: &Vec<Cell>| -> Map<String, Value> {
        let members = frame.columns.iter().zip(row);
        members.map(|((name, _), cell)| ((*name).to_owned(), value(cell))).collect()
    };
    let line = |row| serde_json::to_string(&object(row)).expect("cells are plain data") + "\n";
    frame.rows.iter().map(line).collect::<String>().into_bytes()
}

/// One JSON array of objects, a member per column; what is not there is `null`.
pub fn json(frame: &Frame) -> Vec<u8> {
    let object = |row: &Vec<Cell>| -> Value {
        let members = frame.columns.iter().zip(row);
        Value::Object(members.map(|((name, _), cell)| ((*name).to_owned(), value(cell))).collect())
    };
    let rows: Vec<Value> = frame.rows.iter().map(object).collect();
    (serde_json::to_string_pretty(&rows).expect("cells are plain data") + "\n").into_bytes()
}

/// A table of Markdown (GitHub's), numbers to four significant digits and to the right.
pub fn markdown(frame: &Frame) -> Vec<u8> {
    let escape = |text: &str| text.replace('\\', "\\\\").replace('|', "\\|").replace(['\n', '\r'], " ");
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let header = line(frame.columns.iter().map(|(name, _)| escape(name)).collect());
    let sides = frame.columns.iter().map(|(_, kind)| if is_number(*kind) { "---:" } else { "---" });
    let rule = line(sides.map(str::to_owned).collect());
    let rows = frame.rows.iter().map(|row| line(row.iter().map(|cell| escape(&rounded(cell))).collect()));
    (header + &rule + &rows.collect::<String>()).into_bytes()
}

/// A `tabular` with the rules of `booktabs`, numbers to four significant digits.
pub fn latex(frame: &Frame) -> Vec<u8> {
    let sides: String =
        frame.columns.iter().map(|(_, kind)| if is_number(*kind) { 'r' } else { 'l' }).collect();
    let line = |cells: Vec<String>| format!("{} \\\\\n", cells.join(" & "));
    let header = line(frame.columns.iter().map(|(name, _)| latex_text(name)).collect());
    let rows = frame.rows.iter().map(|row| line(row.iter().map(latex_cell).collect())).collect::<String>();
    format!(
        "% \\usepackage{{booktabs}}\n\\begin{{tabular}}{{{sides}}}\n\\toprule\n{header}\\midrule\n{rows}\\bottomrule\n\
         \\end{{tabular}}\n"
    )
    .into_bytes()
}

fn is_number(kind: Kind) -> bool {
    matches!(kind, Kind::Whole | Kind::Real)
}

/// A cell for people: a dash for what is not there, four significant digits.
fn rounded(cell: &Cell) -> String {
    match cell {
        Cell::Empty => "–".to_owned(),
        Cell::Real(x) if *x != 0.0 && !(1e-3..1e6).contains(&x.abs()) => format!("{x:.3e}"),
        Cell::Real(x) if *x != 0.0 => {
            let decimals = (3 - x.abs().log10().floor() as i32).max(0) as usize;
            format!("{x:.decimals$}")
        }
        other => other.to_string(),
    }
}

fn latex_cell(cell: &Cell) -> String {
    let text = rounded(cell);
    match (cell, text.split_once('e')) {
        (Cell::Empty, _) => "--".to_owned(),
        (Cell::Real(_), Some((mantissa, exponent))) => format!("${mantissa}\\times10^{{{exponent}}}$"),
        (Cell::Word(_), _) => latex_text(&text),
        _ => text,
    }
}

fn latex_text(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => out.extend(['\\', c]),
            '~' => out.push_str("\\textasciitilde{}"),
            '^' => out.push_str("\\textasciicircum{}"),
            '\\' => out.push_str("\\textbackslash{}"),
            '\n' | '\r' => out.push(' '),
            _ => out.push(c),
        }
    }
    out
}

fn value(cell: &Cell) -> Value {
    match cell {
        Cell::Empty => Value::Null,
        Cell::Word(text) => text.as_str().into(),
        Cell::Whole(n) => (*n).into(),
        Cell::Real(x) => (*x).into(),
        Cell::Flag(yes) => (*yes).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_the_same_rows_in_every_format() {
        let frame = Frame {
            columns: vec![("x", Kind::Word), ("y", Kind::Real), ("z", Kind::Whole), ("w", Kind::Flag)],
            rows: vec![
                vec![
                    Cell::Word("1,\"2\"".into()),
                    Cell::Real(1.0 / 3.0),
                    Cell::Whole(u64::MAX),
                    Cell::Flag(true),
                ],
                vec![Cell::Word("plain".into()), Cell::Empty, Cell::Whole(2), Cell::Flag(false)],
            ],
        };
        let text = |bytes| String::from_utf8(bytes).unwrap();
        assert_eq!(
            text(csv(&frame)),
            "x,y,z,w\n\"1,\"\"2\"\"\",0.3333333333333333,18446744073709551615,true\nplain,,2,false\n"
        );
        assert_eq!(
            text(json_lines(&frame)),
            "{\"x\":\"1,\\\"2\\\"\",\"y\":0.3333333333333333,\"z\":18446744073709551615,\"w\":true}\n\
             {\"x\":\"plain\",\"y\":null,\"z\":2,\"w\":false}\n"
        );
        let array: Vec<Value> = serde_json::from_slice(&json(&frame)).unwrap();
        assert_eq!((&array[0]["z"], &array[1]["y"]), (&Value::from(u64::MAX), &Value::Null));
        let empty = Frame { rows: Vec::new(), ..frame };
        assert_eq!(text(json(&empty)), "[]\n");
        assert_eq!((text(csv(&empty)), text(json_lines(&empty))), ("x,y,z,w\n".to_owned(), String::new()));
    }

    #[test]
    fn tables_for_people_round_and_escape() {
        let frame = Frame {
            columns: vec![("run_id", Kind::Word), ("y", Kind::Real)],
            rows: vec![
                vec![Cell::Word("a_b|100%".into()), Cell::Real(1.0 / 3.0)],
                vec![Cell::Word("c".into()), Cell::Real(1.234_567e12)],
                vec![Cell::Word("d".into()), Cell::Empty],
                vec![Cell::Word("e".into()), Cell::Real(0.0)],
            ],
        };
        assert_eq!(
            String::from_utf8(markdown(&frame)).unwrap(),
            "| run_id | y |\n| --- | ---: |\n| a_b\\|100% | 0.3333 |\n| c | 1.235e12 |\n| d | – |\n| e | 0 |\n"
        );
        let latex = String::from_utf8(latex(&frame)).unwrap();
        assert!(latex.contains("\\begin{tabular}{lr}\n\\toprule\nrun\\_id & y \\\\\n\\midrule\n"), "{latex}");
        assert!(
            latex.contains("a\\_b|100\\% & 0.3333 \\\\\nc & $1.235\\times10^{12}$ \\\\\nd & -- \\\\\n"),
            "{latex}"
        );
    }
}
