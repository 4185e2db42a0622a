//! The self-made certificate of `serve --dev`: an authority of its own, which clients can be told
//! to trust, and a server certificate signed by it. Both stay in the data directory and are used
//! again while they are valid, so that trust has to be given once.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use lockstep_model::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::OffsetDateTime;

/// How long the authority is valid.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(3_650 * DAY_S);
/// How long a server certificate is valid; some clients refuse more than 825 days.
const SERVER_LIFETIME: Duration = Duration::from_secs(397 * DAY_S);
/// A certificate with less time left than this is made anew at the next start.
const RENEWAL_MARGIN: Duration = Duration::from_secs(30 * DAY_S);
/// By how much the start of validity lies back, for clients whose clocks are behind.
const BACKDATED: Duration = Duration::from_secs(DAY_S);
const DAY_S: u64 = 86_400;

/// The files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct DevCertificate {
    /// The authority's certificate, for clients to trust.
    pub(crate) ca_file: PathBuf,
    /// The authority's key, readable by the owner alone.
    pub(crate) ca_key_file: PathBuf,
    /// The server's certificate and the authority's behind it.
    pub(crate) certificate_file: PathBuf,
    /// The server's key, readable by the owner alone.
    pub(crate) key_file: PathBuf,
}

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DevCertificateError {
    /// A file cannot be written or read.
    #[error("cannot write or read {}: {error}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The certificate cannot be made: a host name that no certificate can hold, or a key file
    /// that holds none.
    #[error(
        "cannot make a certificate: {0}; remove the dev-*.pem files in the data directory to start afresh"
    )]
    Make(#[from] rcgen::Error),
}

/// Makes sure that `directory` (made if absent) holds a valid certificate for `localhost`, the
/// loopback addresses and `host_names`. Keeps what is there and valid at `now`.
///
/// # Errors
/// When files cannot be read or written, or a host name cannot stand in a certificate.
pub(crate) fn ensure(
    directory: &Path,
    host_names: &[String],
    now: Timestamp,
) -> Result<DevCertificate, DevCertificateError> {
    let file = |name: &str| directory.join(name);
    let files = DevCertificate {
        ca_file: file("dev-ca.pem"),
        ca_key_file: file("dev-ca-key.pem"),
        certificate_file: file("dev-server.pem"),
        key_file: file("dev-server-key.pem"),
    };
    fs::create_dir_all(directory)
        .map_err(|error| DevCertificateError::File { file: directory.to_owned(), error })?;
    let now_s = now.unix_millis() / 1_000;
    let names = names(host_names);

    let authority_is_good = is_good(&files.ca_file, AUTHORITY_LABEL, now_s) && files.ca_key_file.exists();
    if !authority_is_good {
        make_authority(&files, now_s)?;
    }
    let label = names.join(" ");
    let good =
        authority_is_good && is_good(&files.certificate_file, &label, now_s) && files.key_file.exists();
    if !good {
        make_server(&files, &names, &label, now_s)?;
    }
    Ok(files)
}

/// Names of the certificate: what every certificate has, then the configured ones.
fn names(host_names: &[String]) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    for name in host_names {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

const AUTHORITY_LABEL: &str = "authority";

/// The line before a certificate that says what it is for and until when; PEM readers skip it.
fn note(label: &str, valid_until_s: i64) -> String {
    format!("# Lockstep development certificate; for: {label}; valid until (Unix time): {valid_until_s}\n")
}

/// Whether the file is one of ours for exactly this, with enough time left.
fn is_good(file: &Path, label: &str, now_s: i64) -> bool {
    let Ok(text) = fs::read_to_string(file) else { return false };
    let Some(first) = text.lines().next() else { return false };
    let Some((_, until)) = first.rsplit_once(": ") else { return false };
    until.parse::<i64>().is_ok_and(|until_s| {
        first == note(label, until_s).trim_end()
            && until_s.saturating_sub(now_s) > RENEWAL_MARGIN.as_secs().cast_signed()
    })
}

fn authority_params(now_s: i64) -> (CertificateParams, i64) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Lockstep development authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let until_s = set_validity(&mut params, now_s, AUTHORITY_LIFETIME);
    (params, until_s)
}

fn make_authority(files: &DevCertificate, now_s: i64) -> Result<(), DevCertificateError> {
    let key = KeyPair::generate()?;
    let (params, until_s) = authority_params(now_s);
    let certificate = params.self_signed(&key)?;
    write_private(&files.ca_key_file, &key.serialize_pem())?;
    write(&files.ca_file, &(note(AUTHORITY_LABEL, until_s) + &certificate.pem()), 0o644)
}

fn make_server(
    files: &DevCertificate,
    names: &[String],
    label: &str,
    now_s: i64,
) -> Result<(), DevCertificateError> {
    // An issuer is its name and its key; the dates of these parameters go nowhere.
    let (issuer_params, _) = authority_params(now_s);
    let issuer = Issuer::new(issuer_params, KeyPair::from_pem(&read(&files.ca_key_file)?)?);
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "Lockstep development server");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let until_s = set_validity(&mut params, now_s, SERVER_LIFETIME);
    let certificate = params.signed_by(&key, &issuer)?;
    write_private(&files.key_file, &key.serialize_pem())?;
    let chain = note(label, until_s) + &certificate.pem() + &read(&files.ca_file)?;
    write(&files.certificate_file, &chain, 0o644)
}

/// Sets both dates; returns the end, in seconds since the Unix epoch.
fn set_validity(params: &mut CertificateParams, now_s: i64, lifetime: Duration) -> i64 {
    let moment = |s| OffsetDateTime::from_unix_timestamp(s).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let until_s = now_s.saturating_add(lifetime.as_secs().cast_signed());
    params.not_before = moment(now_s.saturating_sub(BACKDATED.as_secs().cast_signed()));
    params.not_after = moment(until_s);
    until_s
}

fn read(file: &Path) -> Result<String, DevCertificateError> {
    fs::read_to_string(file).map_err(|error| DevCertificateError::File { file: file.to_owned(), error })
}

fn write_private(file: &Path, text: &str) -> Result<(), DevCertificateError> {
    write(file, text, 0o600)
}

/// Writes a whole new file and puts it in place of the old one.
fn write(file: &Path, text: &str, mode: u32) -> Result<(), DevCertificateError> {
    let new = file.with_extension("new");
    let replace = || {
        // A left-over of a crash may have other permissions.
        if new.exists() {
            fs::remove_file(&new)?;
        }
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true).mode(mode).open(&new)?.write_all(text.as_bytes())?;
        fs::rename(&new, file)
    };
    replace().map_err(|error| DevCertificateError::File { file: file.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_millis(1_750_000_000_000);

    fn all(files: &DevCertificate) -> [String; 4] {
        [&files.ca_file, &files.ca_key_file, &files.certificate_file, &files.key_file]
            .map(|file| fs::read_to_string(file).unwrap())
    }

    #[test]
    fn keys_are_for_the_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let files = ensure(directory.path(), &[], NOW).unwrap();
        for key in [&files.ca_key_file, &files.key_file] {
            assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_restart_uses_the_same_files() {
        let directory = tempfile::tempdir().unwrap();
        let names = ["ns.example".to_owned()];
        let first = all(&ensure(directory.path(), &names, NOW).unwrap());
        let later = NOW.plus(SERVER_LIFETIME.saturating_sub(RENEWAL_MARGIN + Duration::from_secs(1)));
        assert_eq!(all(&ensure(directory.path(), &names, later).unwrap()), first);
    }

    #[test]
    fn an_ending_certificate_is_renewed_under_the_same_authority() {
        let directory = tempfile::tempdir().unwrap();
        let first = all(&ensure(directory.path(), &[], NOW).unwrap());
        let second = all(&ensure(directory.path(), &[], NOW.plus(SERVER_LIFETIME)).unwrap());
        assert_eq!(second[..2], first[..2]);
        assert_ne!(second[2], first[2]);
    }

    #[test]
    fn another_host_name_makes_another_certificate_under_the_same_authority() {
        let directory = tempfile::tempdir().unwrap();
        let first = all(&ensure(directory.path(), &[], NOW).unwrap());
        let second = all(&ensure(directory.path(), &["ns.example".into()], NOW).unwrap());
        assert_eq!(second[..2], first[..2]);
        assert_ne!(second[2], first[2]);
    }

    #[test]
    fn an_ending_authority_takes_its_certificate_along() {
        let directory = tempfile::tempdir().unwrap();
        let first = all(&ensure(directory.path(), &[], NOW).unwrap());
        let second = all(&ensure(directory.path(), &[], NOW.plus(AUTHORITY_LIFETIME)).unwrap());
        assert!(first.iter().zip(&second).all(|(first, second)| first != second));
    }
}
