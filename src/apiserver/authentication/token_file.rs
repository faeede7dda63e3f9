//! The static token file: `token,user,uid,"group1,group2"` per line
//! (<https://kubernetes.io/docs/reference/access-authn-authz/authentication/#static-token-file>).

use std::path::{Path, PathBuf};

use k3s_api::authentication::UserInfo;
use sha2::{Digest, Sha256};

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read the token file {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// A line has fewer than the three columns token, user and uid, or one of the first two is empty.
    #[error("{}:{line}: a token file's line is token,user,uid,\"group1,group2\"", path.display())]
    Line { path: PathBuf, line: usize },
}

/// The tokens of the file with their users.
#[derive(Debug, Default)]
pub struct TokenFile(Vec<([u8; 32], UserInfo)>);

impl TokenFile {
    /// Reads the file as it is now.
    ///
    /// # Errors
    /// If it cannot be read or a line is not as it must be.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|line| Error::Line { path: path.to_owned(), line })
    }

    /// The error is the number of the bad line.
    fn parse(text: &str) -> Result<Self, usize> {
        let mut tokens = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let columns = columns(line).ok_or(number + 1)?;
            let [token, name, uid, rest @ ..] = columns.as_slice() else { return Err(number + 1) };
            if token.is_empty() || name.is_empty() {
                return Err(number + 1);
            }
            let groups = rest.first().map(String::as_str).unwrap_or_default();
            let groups = groups.split(',').map(str::trim).filter(|group| !group.is_empty()).map(str::to_owned);
            let user =
                UserInfo { name: name.clone(), uid: uid.clone(), groups: groups.collect(), ..UserInfo::default() };
            tokens.push((digest(token), user));
        }
        Ok(Self(tokens))
    }

    /// Whose token it is. Digests are compared, so the time taken says nothing about the tokens.
    pub fn user(&self, token: &str) -> Option<&UserInfo> {
        let digest = digest(token);
        self.0.iter().find(|(known, _)| *known == digest).map(|(_, user)| user)
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// The columns of one CSV line (RFC 4180); `None` if a quote is not closed.
fn columns(line: &str) -> Option<Vec<String>> {
    let mut columns = vec![String::new()];
    let mut quoted = false;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        let last = columns.len() - 1;
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                columns[last].push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => columns.push(String::new()),
            // Go's reader trims the space before a column.
            ' ' if !quoted && columns[last].is_empty() => {}
            other => columns[last].push(other),
        }
    }
    (!quoted).then_some(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_one_quoted_column() {
        let file = TokenFile::parse("secret,admin,1,\"system:masters,dev\"\n\nother,bob,2\n").unwrap();
        let admin = file.user("secret").unwrap();
        assert_eq!((admin.name.as_str(), admin.uid.as_str()), ("admin", "1"));
        assert_eq!(admin.groups, ["system:masters", "dev"]);
        assert!(file.user("other").unwrap().groups.is_empty());
        assert!(file.user("secre").is_none());
        assert!(file.user("").is_none());
    }

    #[test]
    fn a_bad_line_is_named() {
        for (text, line) in [("a,b", 1), ("t,u,1\n,u,2", 2), ("t,u,1,\"g", 1), ("t,,1", 1)] {
            assert_eq!(TokenFile::parse(text).unwrap_err(), line, "{text}");
        }
    }
}
