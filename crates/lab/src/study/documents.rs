//! `data.documents`: whether a row may reach from one document into the next.

use super::raw::RawStudy;
use super::resolve::Notes;
use crate::error::UserError;
use isoflop_base::units::{parse_whole, si};
use isoflop_data::{Corpus, Sampler, Tokens};

const DOCUMENTS: &str = "data.documents";
const END_OF_TEXT: &str = "data.end_of_text";

fn apart(raw: &RawStudy) -> Result<bool, UserError> {
    let parse = |word: &str| match word {
        "joined" => Some(false),
        "separate" => Some(true),
        _ => None,
    };
    let apart = raw.word(DOCUMENTS, parse, &["joined", "separate"])?.unwrap_or(false);
    if !apart && raw.entries.contains_key(END_OF_TEXT) {
        return Err(UserError::new(format!(
            "{}: only where documents are kept apart",
            raw.place(END_OF_TEXT)
        ))
        .hint("write documents = \"separate\" under [data]"));
    }
    Ok(apart)
}

/// The texts as the study wants them read.
///
/// # Errors
/// Documents that are to be kept apart where none are marked.
pub(super) fn open(raw: &RawStudy, corpus: Corpus) -> Result<Corpus, UserError> {
    if !apart(raw)? {
        return Ok(corpus);
    }
    let id = given(raw, &corpus)?;
    corpus.separated(id).map_err(|e| UserError::from_error(format!("{}: {e}", raw.place(DOCUMENTS))))
}

fn given(raw: &RawStudy, corpus: &Corpus) -> Result<Option<u32>, UserError> {
    let Some(id) = raw.parsed(END_OF_TEXT, parse_whole)? else { return Ok(None) };
    match u32::try_from(id) {
        Ok(small) if (small as usize) < corpus.info.vocab => Ok(Some(small)),
        _ => Err(UserError::new(format!(
            "{}: {id} is beyond the vocabulary of {}",
            raw.place(END_OF_TEXT),
            corpus.info.vocab
        ))
        .hint("write the id of the token between documents, such as 50256")),
    }
}

/// The id at which rows end, where documents are kept apart.
pub(super) fn end_of_text(raw: &RawStudy, corpus: &Corpus) -> Result<Option<u32>, UserError> {
    if !apart(raw)? {
        return Ok(None);
    }
    let id = given(raw, corpus)?;
    id.map_or_else(|| corpus.end_of_text(), Ok).map(Some).map_err(UserError::from_error)
}

/// Tokens of a text that rows of so many have, and a note of what is left out.
///
/// # Errors
/// No document is as long as a row.
pub(super) fn readable(
    raw: &RawStudy,
    tokens: &dyn Tokens,
    key: &str,
    context: usize,
    notes: &mut Notes,
) -> Result<u64, UserError> {
    let Some(boundaries) = tokens.boundaries() else {
        if apart(raw)? {
            notes.add(key, "joined", "no end of a document is marked in it: it is read as one", false);
        }
        return Ok(tokens.len());
    };
    let sampler = Sampler::over(tokens, context, 0, None).map_err(UserError::from_error)?;
    let readable = sampler.windows() * context as u64;
    let reason = format!(
        "{} of {} documents have a whole row of {context} tokens; rows have {:.1} % of {} tokens, the rest is not read",
        boundaries.with_windows(context as u64),
        boundaries.documents(),
        100.0 * readable as f64 / tokens.len() as f64,
        si(tokens.len() as f64),
    );
    notes.add(key, "separate", &reason, false);
    Ok(readable)
}
