//! One module per verb: its arguments and its `run`.

pub(crate) mod audit;
pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod design;
pub(crate) mod doctor;
pub(crate) mod eval;
pub(crate) mod fewshot;
pub(crate) mod fit;
pub(crate) mod init;
pub(crate) mod plan;
pub(crate) mod predict;
pub(crate) mod prepare;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod sample;
pub(crate) mod shell;
pub(crate) mod tokenizer;
pub(crate) mod top;
pub(crate) mod watch;
