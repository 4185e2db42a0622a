//! Distinguished names of certificates, and their text form (RFC 4514): what an operator writes
//! and what the log shows.

use std::fmt::{self, Write as _};

use x509_parser::{asn1_rs::ToDer as _, x509::X509Name};

/// Short names of attribute types (RFC 4514, 3, and the two that others use most), with their
/// object identifiers.
const SHORT_NAMES: [(&str, &str); 11] = [
    ("CN", "2.5.4.3"),
    ("SERIALNUMBER", "2.5.4.5"),
    ("C", "2.5.4.6"),
    ("L", "2.5.4.7"),
    ("ST", "2.5.4.8"),
    ("STREET", "2.5.4.9"),
    ("O", "2.5.4.10"),
    ("OU", "2.5.4.11"),
    ("UID", "0.9.2342.19200300.100.1.1"),
    ("DC", "0.9.2342.19200300.100.1.25"),
    ("EMAILADDRESS", "1.2.840.113549.1.9.1"),
];

/// One attribute: its type as a short name or object identifier, and its value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Attribute {
    kind: String,
    value: AttributeValue,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum AttributeValue {
    Text(String),
    /// The encoding of a value that is no text: tag, length and content (RFC 4514, 2.4).
    Encoded(Vec<u8>),
}

/// A distinguished name. Two are equal if they have the same attributes with the same values,
/// letter case included, in the same order; within a part of several attributes order does not
/// count, nor does how a text is encoded.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct DistinguishedName {
    /// As RFC 4514 writes them, the last one of the certificate first.
    parts: Vec<Vec<Attribute>>,
}

impl DistinguishedName {
    /// Reads the text form: `CN=worker,O=Acme`. Space around separators does not count.
    ///
    /// # Errors
    /// What is wrong, to be read after the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let mut reader = Reader(text.trim_start_matches(' '));
        let mut parts = vec![Vec::new()];
        loop {
            let attribute = reader.attribute()?;
            if let Some(part) = parts.last_mut() {
                part.push(attribute);
            }
            match reader.0.chars().next() {
                None => break,
                Some(',') => parts.push(Vec::new()),
                // Only '+' is left: values end at nothing else.
                Some(_) => {}
            }
            reader.0 = &reader.0[1..];
        }
        parts.iter_mut().for_each(|part| part.sort());
        Ok(Self { parts })
    }

    /// The name as a certificate holds it.
    pub(crate) fn of(name: &X509Name<'_>) -> Self {
        let mut parts: Vec<Vec<Attribute>> = name
            .iter_rdn()
            .map(|part| {
                let mut part: Vec<Attribute> = part
                    .iter()
                    .map(|attribute| Attribute {
                        kind: short_name(attribute.attr_type().to_id_string()),
                        value: match attribute.as_str() {
                            Ok(text) => AttributeValue::Text(text.to_owned()),
                            Err(_) => AttributeValue::Encoded(
                                // Writing to memory does not fail.
                                attribute.attr_value().to_der_vec().unwrap_or_default(),
                            ),
                        },
                    })
                    .collect();
                part.sort();
                part
            })
            .collect();
        parts.reverse();
        Self { parts }
    }
}

fn short_name(oid: String) -> String {
    let known = SHORT_NAMES.iter().find(|(_, known)| *known == oid);
    known.map_or(oid, |(short, _)| (*short).to_owned())
}

/// What is left of a text.
struct Reader<'a>(&'a str);

impl Reader<'_> {
    fn attribute(&mut self) -> Result<Attribute, &'static str> {
        let (kind, rest) = self.0.split_once('=').ok_or("has a part without '='")?;
        let kind = attribute_type(kind.trim())?;
        self.0 = rest.trim_start_matches(' ');
        let value = match self.0.strip_prefix('#') {
            Some(hex) => {
                self.0 = hex;
                AttributeValue::Encoded(self.hex()?)
            }
            None => AttributeValue::Text(self.text()?),
        };
        Ok(Attribute { kind, value })
    }

    /// Up to the next separator that is not escaped.
    fn text(&mut self) -> Result<String, &'static str> {
        let mut bytes = Vec::new();
        // Spaces at the end do not count, unless escaped.
        let mut kept = 0;
        while let Some(character) = self.0.chars().next() {
            match character {
                ',' | '+' => break,
                '"' | ';' | '<' | '>' | '\0' => return Err("has a character that needs a '\\' before it"),
                '\\' => {
                    self.0 = &self.0[1..];
                    bytes.extend(self.escaped()?);
                    kept = bytes.len();
                }
                other => {
                    self.0 = &self.0[other.len_utf8()..];
                    bytes.extend(other.encode_utf8(&mut [0; 4]).bytes());
                    if other != ' ' {
                        kept = bytes.len();
                    }
                }
            }
        }
        bytes.truncate(kept);
        String::from_utf8(bytes).map_err(|_| "has escapes that are no UTF-8")
    }

    /// What follows a backslash: a character, or a byte in two hexadecimal digits.
    fn escaped(&mut self) -> Result<Vec<u8>, &'static str> {
        let character = self.0.chars().next().ok_or("ends with a '\\'")?;
        if matches!(character, ' ' | '"' | '#' | '+' | ',' | ';' | '<' | '=' | '>' | '\\') {
            self.0 = &self.0[1..];
            return Ok(vec![character as u8]);
        }
        let digits = self.0.get(..2).ok_or("has a '\\' before nothing that needs one")?;
        let byte = hex_byte(digits).ok_or("has a '\\' before nothing that needs one")?;
        self.0 = &self.0[2..];
        Ok(vec![byte])
    }

    fn hex(&mut self) -> Result<Vec<u8>, &'static str> {
        let end = self.0.find([',', '+']).unwrap_or(self.0.len());
        let (digits, rest) = self.0.split_at(end);
        self.0 = rest;
        let digits = digits.trim_end_matches(' ');
        let is_whole = !digits.is_empty() && digits.len() % 2 == 0 && digits.is_ascii();
        let bytes = is_whole.then(|| {
            let pairs = (0..digits.len()).step_by(2);
            pairs.map(|at| digits.get(at..at + 2).and_then(hex_byte)).collect::<Option<Vec<u8>>>()
        });
        bytes.flatten().ok_or("has a '#' before what are no hexadecimal digits")
    }
}

fn hex_byte(digits: &str) -> Option<u8> {
    // `from_str_radix` would take a sign.
    let are_digits = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    are_digits.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// An attribute type in its one spelling.
fn attribute_type(text: &str) -> Result<String, &'static str> {
    let upper = text.to_ascii_uppercase();
    if SHORT_NAMES.iter().any(|(short, _)| *short == upper) {
        return Ok(upper);
    }
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if text.contains('.') && text.split('.').all(is_number) {
        return Ok(short_name(text.to_owned()));
    }
    Err("has an attribute type that is not known; write its object identifier, such as 2.5.4.3")
}

impl fmt::Display for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.parts.iter().enumerate() {
            for (within, attribute) in part.iter().enumerate() {
                f.write_str(match (at, within) {
                    (0, 0) => "",
                    (_, 0) => ",",
                    _ => "+",
                })?;
                write!(f, "{}=", attribute.kind)?;
                match &attribute.value {
                    AttributeValue::Text(text) => write_text(f, text)?,
                    AttributeValue::Encoded(bytes) => {
                        f.write_char('#')?;
                        bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let last = text.chars().count().saturating_sub(1);
    for (at, character) in text.chars().enumerate() {
        match character {
            '\0'..='\x1f' => write!(f, "\\{:02x}", u32::from(character))?,
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => write!(f, "\\{character}")?,
            '#' | ' ' if at == 0 => write!(f, "\\{character}")?,
            ' ' if at == last => f.write_str("\\ ")?,
            other => f.write_char(other)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> DistinguishedName {
        DistinguishedName::parse(text).unwrap_or_else(|problem| panic!("{text} {problem}"))
    }

    #[test]
    fn a_name_is_written_back_in_one_form() {
        for (text, written) in [
            ("CN=worker,O=Acme", "CN=worker,O=Acme"),
            (" cn = worker , o=Acme ", "CN=worker,O=Acme"),
            ("2.5.4.3=worker", "CN=worker"),
            ("1.2.3.4=x", "1.2.3.4=x"),
            ("CN=a+OU=b,C=DE", "CN=a+OU=b,C=DE"),
            ("OU=b + CN=a,C=DE", "CN=a+OU=b,C=DE"),
            ("CN=a\\, b\\+c\\=d", "CN=a\\, b\\+c=d"),
            ("CN=\\ x\\ ", "CN=\\ x\\ "),
            ("CN=\\#x", "CN=\\#x"),
            ("CN=Gr\\C3\\B6\\C3\\9fe", "CN=Größe"),
            ("CN=\\0a", "CN=\\0a"),
            ("CN=", "CN="),
            ("1.2.3.4=#0403616263", "1.2.3.4=#0403616263"),
        ] {
            let name = parsed(text);
            assert_eq!(name.to_string(), written, "{text}");
            assert_eq!(parsed(written), name, "{text}");
        }
    }

    #[test]
    fn order_letter_case_and_every_attribute_count() {
        let name = parsed("CN=worker,O=Acme");
        for other in
            ["O=Acme,CN=worker", "CN=Worker,O=Acme", "CN=worker", "CN=worker+O=Acme", "CN=worker,O=Acme,C=DE"]
        {
            assert_ne!(parsed(other), name, "{other}");
        }
    }

    #[test]
    fn what_is_no_name_is_told_apart() {
        for text in [
            "",
            "worker",
            "CN=a,",
            "CN=a,,O=b",
            "XY=a",
            "CN=a;O=b",
            "CN=\"a\"",
            "CN=a\\",
            "CN=a\\x",
            "CN=\\+1=",
            "CN=\\ff",
            "1.2=#0",
            "1.2=#zz",
            "1.2=#",
            ".=a",
            "1.=a",
            "CN=a\\é",
        ] {
            let ok = text == "CN=\\+1=";
            assert_eq!(DistinguishedName::parse(text).is_ok(), ok, "{text}");
        }
    }

    #[test]
    fn the_subject_of_a_certificate_reads_as_its_text_form_does() {
        use rcgen::{CertificateParams, DnType, DnValue, KeyPair};
        use x509_parser::prelude::{FromDer as _, X509Certificate};

        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Acme, Inc.");
        params
            .distinguished_name
            .push(DnType::CommonName, DnValue::PrintableString("worker".try_into().unwrap()));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let (_, certificate) = X509Certificate::from_der(certificate.der()).unwrap();
        let name = DistinguishedName::of(certificate.subject());
        assert_eq!(name, parsed("CN=worker, O=Acme\\, Inc."));
        assert_eq!(name.to_string(), "CN=worker,O=Acme\\, Inc.");
    }

    #[test]
    fn a_value_in_another_encoding_is_its_tag_length_and_content() {
        use rcgen::{CertificateParams, DnType, DnValue, KeyPair};
        use x509_parser::prelude::{FromDer as _, X509Certificate};

        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, DnValue::BmpString("abc".try_into().unwrap()));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let (_, certificate) = X509Certificate::from_der(certificate.der()).unwrap();
        let name = DistinguishedName::of(certificate.subject());
        assert_eq!(name.to_string(), "CN=#1e06006100620063");
        assert_eq!(name, parsed("CN=#1e06006100620063"));
    }
}
