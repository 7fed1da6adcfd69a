//! How the header that carries a signature is written, and what is signed: both told by a pattern.

use super::SenderRefusal;

/// Signatures of one header that are looked at: a sender needs two while it rotates its key.
const SIGNATURES_MAX: usize = 8;

/// How the header that carries the signature is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One signature after a fixed beginning.
    Prefixed(String),
    /// Signatures separated by spaces, each after a fixed beginning; others are passed over.
    List(String),
    /// `t=...,v1=...`: names of the time's part and of the signature's.
    Pairs {
        timestamp: Option<String>,
        signature: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FormPiece {
    Literal(String),
    Id,
    Timestamp,
    Body,
}

impl Form {
    pub(super) fn read(pattern: &str) -> Result<Form, String> {
        let expected = || {
            "the pattern must be like `{signature}`, `v0={signature}` or `t={timestamp},v1={signature}`"
                .to_owned()
        };
        if pattern.matches("{signature}").count() != 1 {
            return Err(expected());
        }
        if !pattern.contains(',') {
            let prefix = pattern.strip_suffix("{signature}").ok_or_else(expected)?;
            return match prefix.contains(['{', '}']) {
                true => Err(expected()),
                false => Ok(Form::Prefixed(prefix.to_owned())),
            };
        }
        let (mut timestamp, mut signature) = (None, None);
        for part in pattern.split(',') {
            let (name, value) = part.trim().split_once('=').ok_or_else(expected)?;
            match value {
                "{timestamp}" => timestamp = Some(name.to_owned()),
                "{signature}" => signature = Some(name.to_owned()),
                _ => return Err(expected()),
            }
        }
        Ok(Form::Pairs {
            timestamp,
            signature: signature.ok_or_else(expected)?,
        })
    }

    /// The time, where it stands there, and the signatures.
    pub(super) fn take_apart<'a>(
        &self,
        header: &'a str,
    ) -> Result<(&'a str, Vec<&'a str>), SenderRefusal> {
        match self {
            Form::Prefixed(prefix) => {
                let signature = header.strip_prefix(prefix.as_str());
                Ok(("", vec![signature.ok_or(SenderRefusal::Malformed)?]))
            }
            Form::List(prefix) => {
                let signatures = header
                    .split(' ')
                    .filter_map(|item| item.strip_prefix(prefix.as_str()));
                Ok(("", signatures.take(SIGNATURES_MAX).collect()))
            }
            Form::Pairs {
                timestamp: time_name,
                signature: name,
            } => {
                // Base64 ends in `=`: only the first one parts name and value.
                let pairs: Vec<_> = header
                    .split(',')
                    .filter_map(|part| part.trim().split_once('='))
                    .collect();
                let values = |name: &str| {
                    pairs
                        .iter()
                        .filter(|(n, _)| *n == name)
                        .map(|(_, v)| *v)
                        .collect::<Vec<_>>()
                };
                let timestamp = match time_name {
                    None => "",
                    Some(name) => match values(name)[..] {
                        [one] => one,
                        [] => return Err(SenderRefusal::Malformed),
                        _ => return Err(SenderRefusal::Twice),
                    },
                };
                let mut signatures = values(name);
                signatures.truncate(SIGNATURES_MAX);
                Ok((timestamp, signatures))
            }
        }
    }
}

/// What is signed, by its template.
pub(super) fn read_template(template: &str) -> Result<Vec<FormPiece>, String> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while !rest.is_empty() {
        let (literal, variable) = rest.split_once('{').unwrap_or((rest, ""));
        if !literal.is_empty() {
            pieces.push(FormPiece::Literal(literal.to_owned()));
        }
        if literal.len() == rest.len() {
            break;
        }
        let (name, after) = variable
            .split_once('}')
            .ok_or("what is signed has a `{` without its `}`")?;
        pieces.push(match name {
            "id" => FormPiece::Id,
            "timestamp" => FormPiece::Timestamp,
            "body" => FormPiece::Body,
            _ => return Err("what is signed may hold {id}, {timestamp} and {body}".to_owned()),
        });
        rest = after;
    }
    Ok(pieces)
}
