//! As much of Rust's syntax as the rules of the house need.

use std::collections::BTreeSet;

/// What a file's code says of other files.
pub struct Reader {
    /// The file's path.
    pub path: String,
    /// Its child modules, those for tests left out.
    pub children: Vec<String>,
    /// What it imports or hands on.
    pub uses: Vec<Import>,
    /// The paths of two names or more in its other code.
    pub paths: Vec<Vec<String>>,
    /// The names in its other code.
    pub words: BTreeSet<String>,
    /// The types that it defines.
    pub types: Vec<String>,
}

/// One name of a `use`.
pub struct Import {
    /// Where it comes from.
    pub path: Vec<String>,
    /// What it is called here.
    pub name: String,
    /// Whether it is handed on.
    pub is_public: bool,
}

impl Reader {
    /// Reads `tokens`, the code of the file at `path`.
    pub fn new(path: &str, tokens: &[String]) -> Self {
        let mut reader = Self {
            path: path.to_owned(),
            children: Vec::new(),
            uses: Vec::new(),
            paths: Vec::new(),
            words: BTreeSet::new(),
            types: Vec::new(),
        };
        let word = |at: usize| tokens.get(at).map_or("", String::as_str);
        let mut at = 0;
        while at < tokens.len() {
            match word(at) {
                "use" if is_name(word(at + 1)) => {
                    let is_public = at > 0 && matches!(word(at - 1), "pub" | ")");
                    let end = tokens[at..].iter().position(|token| token == ";");
                    let end = end.map_or(tokens.len(), |length| at + length);
                    reader.read_use(&tokens[at + 1..end], &[], is_public);
                    at = end;
                }
                "mod" if word(at + 2) == ";" => reader.children.push(word(at + 1).to_owned()),
                "struct" | "enum" | "trait" | "union" if is_name(word(at + 1)) => {
                    reader.types.push(word(at + 1).to_owned());
                }
                // Not one of a trait or of its implementation: those stand inside braces.
                "type" if depth(&tokens[..at]) == 0 => reader.types.push(word(at + 1).to_owned()),
                name if is_name(name) => {
                    let mut path = vec![name.to_owned()];
                    while word(at + 1) == "::" && is_name(word(at + 2)) {
                        at += 2;
                        path.push(word(at).to_owned());
                    }
                    reader.words.insert(path[0].clone());
                    if path.len() > 1 {
                        reader.paths.push(path);
                    }
                }
                _ => {}
            }
            at += 1;
        }
        reader
    }

    /// One tree of a `use`, and what follows it behind commas.
    fn read_use(&mut self, tokens: &[String], before: &[String], is_public: bool) {
        let mut path = before.to_vec();
        let mut name = None;
        let mut at = 0;
        while at < tokens.len() {
            match tokens[at].as_str() {
                "::" => {}
                "," => {
                    self.import(&path, before, name.take(), is_public);
                    path = before.to_vec();
                }
                "as" => {
                    name = tokens.get(at + 1).cloned();
                    at += 1;
                }
                "{" => {
                    let mut end = at + 1;
                    while end < tokens.len() && depth(&tokens[at..=end]) > 0 {
                        end += 1;
                    }
                    self.read_use(&tokens[at + 1..end], &path, is_public);
                    path = before.to_vec();
                    at = end;
                }
                step => path.push(step.to_owned()),
            }
            at += 1;
        }
        self.import(&path, before, name, is_public);
    }

    fn import(
        &mut self,
        path: &[String],
        before: &[String],
        name: Option<String>,
        is_public: bool,
    ) {
        if path.len() == before.len() {
            return;
        }
        let mut path = path.to_vec();
        if path.len() > 1 && path.last().is_some_and(|step| step == "self") {
            path.pop();
        }
        let name = name.unwrap_or_else(|| path[path.len() - 1].clone());
        self.uses.push(Import {
            path,
            name,
            is_public,
        });
    }
}

/// The words and signs of `text`, without comments, literals and items for tests alone.
pub fn code_tokens(text: &str) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    let all = tokens(text);
    let mut at = 0;
    while at < all.len() {
        let is_for_tests = ["#", "[", "cfg", "(", "test", ")", "]"]
            .iter()
            .enumerate()
            .all(|(further, sign)| all.get(at + further).is_some_and(|token| token == sign));
        if !is_for_tests {
            kept.push(all[at].clone());
            at += 1;
            continue;
        }
        at += 7;
        let start = at;
        while at < all.len() {
            at += 1;
            let has_ended = matches!(all[at - 1].as_str(), ";" | "}");
            if has_ended && depth(&all[start..at]) == 0 {
                break;
            }
        }
    }
    kept
}

fn depth(tokens: &[String]) -> usize {
    let opened = tokens
        .iter()
        .filter(|token| matches!(token.as_str(), "{" | "(" | "["));
    let closed = tokens
        .iter()
        .filter(|token| matches!(token.as_str(), "}" | ")" | "]"));
    opened.count().saturating_sub(closed.count())
}

fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            c if is_part(c) => {
                let end = rest.find(|c: char| !is_part(c)).unwrap_or(rest.len());
                let word = &rest[..end];
                if matches!(word, "r" | "br") && rest[end..].starts_with(['"', '#']) {
                    raw_length(rest)
                } else {
                    tokens.push(word.to_owned());
                    end
                }
            }
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => quoted_length(rest, '"'),
            '\'' if is_character(rest) => quoted_length(rest, '\''),
            ':' if rest.starts_with("::") => {
                tokens.push("::".to_owned());
                2
            }
            c => {
                if !c.is_whitespace() {
                    tokens.push(c.to_string());
                }
                c.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    tokens
}

fn is_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// `'x'` or `'\n'`, not the lifetime `'x`.
fn is_character(text: &str) -> bool {
    let mut characters = text.chars().skip(1);
    characters.next() == Some('\\') || characters.next() == Some('\'')
}

fn quoted_length(text: &str, mark: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == mark => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn raw_length(text: &str) -> usize {
    let start = text.find(['"', '#']).unwrap_or(0);
    let signs = text[start..].chars().take_while(|c| *c == '#').count();
    let open = start + signs + 1;
    let end = format!("\"{}", "#".repeat(signs));
    text.get(open..)
        .and_then(|inside| inside.find(&end))
        .map_or(text.len(), |at| open + at + end.len())
}
