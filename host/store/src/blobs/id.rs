//! A blob file's name.

/// A blob file's name: 32 lowercase hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobId(String);

impl BlobId {
    pub(super) fn random() -> BlobId {
        BlobId(format!("{:032x}", rand::random::<u128>()))
    }

    /// Reads an id, as a client's upload path holds it; none if it is not one.
    pub fn parse(text: &str) -> Option<BlobId> {
        let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        (text.len() == 32 && text.bytes().all(hex)).then(|| BlobId(text.to_string()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where the file is below `blobs/`.
    pub(super) fn file(&self) -> String {
        format!("{}/{}", &self.0[..2], self.0)
    }
}

impl TryFrom<String> for BlobId {
    type Error = String;
    fn try_from(text: String) -> Result<BlobId, String> {
        BlobId::parse(&text).ok_or_else(|| format!("`{text}` is not a blob id"))
    }
}

impl From<BlobId> for String {
    fn from(id: BlobId) -> String {
        id.0
    }
}

impl std::fmt::Display for BlobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::fmt::Debug for BlobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_hexadecimal() {
        assert!(BlobId::parse("../../../../../../../../etc/pass").is_none());
        assert!(BlobId::parse("0123456789ABCDEF0123456789abcdef").is_none());
        assert!(BlobId::parse("0123456789abcdef0123456789abcdef").is_some());
        assert_eq!(BlobId::random().file().len(), 35);
    }
}
