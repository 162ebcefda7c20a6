//! Points and curves as text other programs read.

use isoflop_base::columns::{Cell, Frame};
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
    use isoflop_base::columns::Kind;

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
        let empty = Frame { rows: Vec::new(), ..frame };
        assert_eq!((text(csv(&empty)), text(json_lines(&empty))), ("x,y,z,w\n".to_owned(), String::new()));
    }
}
