//! What `serve` prints when clients can connect: connection strings to paste into them.

use std::{
    fmt::Write as _,
    io::{IsTerminal as _, stdout},
    net::SocketAddr,
    path::Path,
};

use lockstep_model::Right;
use lockstep_server::config::{
    AMQP_PORT, AMQPS_PORT, DEV_KEY, NamespaceConfig, PolicyConfig, ResolvedConfig,
};

/// Whether keys may be shown: only to somebody who looks, not to a log file.
pub(crate) fn may_show_keys() -> bool {
    stdout().is_terminal()
}

/// The text for standard output.
pub(crate) fn welcome(
    config: &ResolvedConfig,
    addresses: &[SocketAddr],
    ca_file: Option<&Path>,
    show_keys: bool,
) -> String {
    let mut text = format!("Lockstep {}\n", env!("CARGO_PKG_VERSION"));
    let default = if config.data_dir_is_default { " (the default; --data-dir changes it)" } else { "" };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "  data directory: {}{default}", config.data_dir.display());
    let listening: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    let _ = writeln!(text, "  listening on:   {}", listening.join(", "));
    if let Some(ca_file) = ca_file {
        let file = ca_file.display();
        let _ = writeln!(
            text,
            "  to trust TLS:   SSL_CERT_FILE={file} (Python, .NET, Go) or NODE_EXTRA_CA_CERTS={file} (Node)"
        );
    }
    for (at, namespace) in config.namespaces.iter().enumerate() {
        describe(&mut text, config, namespace, at == 0, addresses, show_keys);
    }
    text
}

fn describe(
    text: &mut String,
    config: &ResolvedConfig,
    namespace: &NamespaceConfig,
    is_first: bool,
    addresses: &[SocketAddr],
    show_keys: bool,
) {
    let queues = match namespace.queues.as_slice() {
        [] => "no queues".to_owned(),
        [queue] => format!("queue {}", queue.description.name),
        queues => format!("{} queues", queues.len()),
    };
    let _ = writeln!(text, "\nNamespace {} ({queues})", namespace.name);
    let Some(policy) = policy(namespace) else {
        let _ = writeln!(text, "  no policy: nobody can connect to it");
        return;
    };
    let key = policy.primary_key.expose();
    let key = if show_keys || key == DEV_KEY { key } else { "<key>" };
    // Any listener serves every protocol; clients have favourite ports.
    for (label, port, tail) in
        [("plain", AMQP_PORT, ";UseDevelopmentEmulator=true"), ("TLS  ", AMQPS_PORT, "")]
    {
        if label != "plain" && config.tls.is_none() {
            continue;
        }
        let Some(address) =
            addresses.iter().find(|address| address.port() == port).or_else(|| addresses.first())
        else {
            continue;
        };
        let host = host(namespace, is_first, *address);
        let port = address.port();
        let name = &policy.name;
        let _ = writeln!(
            text,
            "  {label}  Endpoint=sb://{host}:{port};SharedAccessKeyName={name};SharedAccessKey={key}{tail}"
        );
    }
    if !is_first {
        let _ = writeln!(text, "         (the host name tells the namespace; it must lead to this machine)");
    }
    if key == "<key>" {
        let _ = writeln!(
            text,
            "         (<key> is the primary key of that policy; keys are shown on a terminal only)"
        );
    }
}

/// The policy that can do most.
fn policy(namespace: &NamespaceConfig) -> Option<&PolicyConfig> {
    let of_namespace = || namespace.policies.iter().filter(|policy| policy.scope.is_none());
    of_namespace()
        .find(|policy| policy.rights.contains(&Right::Manage))
        .or_else(|| of_namespace().next())
        .or_else(|| namespace.policies.first())
}

/// The host to connect to: one that means this namespace.
fn host(namespace: &NamespaceConfig, is_first: bool, address: SocketAddr) -> String {
    if !is_first {
        return match namespace.host_names.first() {
            Some(host_name) => host_name.clone(),
            None => format!("{}.localhost", namespace.name),
        };
    }
    let ip = address.ip();
    if ip.is_loopback() || ip.is_unspecified() {
        return "localhost".to_owned();
    }
    if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() }
}

#[cfg(test)]
mod tests {
    use lockstep_server::config::{LoadOptions, load};

    use super::*;

    fn dev() -> ResolvedConfig {
        load(&LoadOptions { dev: true, data_dir: Some("/d".into()), ..LoadOptions::default() }).unwrap()
    }

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn dev_prints_strings_that_can_be_pasted() {
        let addresses = addresses(&["127.0.0.1:5672", "127.0.0.1:5671"]);
        let text = welcome(&dev(), &addresses, Some(Path::new("/d/dev-ca.pem")), false);
        assert!(text.contains(
            "Endpoint=sb://localhost:5672;SharedAccessKeyName=RootManageSharedAccessKey;\
             SharedAccessKey=SAS_KEY_VALUE;UseDevelopmentEmulator=true\n"
        ));
        assert!(text.contains(
            "Endpoint=sb://localhost:5671;SharedAccessKeyName=RootManageSharedAccessKey;\
             SharedAccessKey=SAS_KEY_VALUE\n"
        ));
        assert!(text.contains("NODE_EXTRA_CA_CERTS=/d/dev-ca.pem"));
    }

    #[test]
    fn keys_of_a_configuration_are_shown_on_a_terminal_only() {
        let directory = std::env::temp_dir().join(format!("lockstep-output-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join("lockstep.toml");
        let policy = "[[namespace.policy]]\nname = \"p\"\nprimary_key = \"secret\"\nrights = [\"Send\"]\n";
        std::fs::write(&file, format!("[[namespace]]\nname = \"ns\"\n{policy}")).unwrap();
        let config = load(&LoadOptions { config: Some(file), ..LoadOptions::default() }).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        let addresses = addresses(&["192.0.2.1:7000"]);
        let logged = welcome(&config, &addresses, None, false);
        assert!(logged.contains("Endpoint=sb://192.0.2.1:7000;SharedAccessKeyName=p;SharedAccessKey=<key>;"));
        assert!(!logged.contains("secret"));
        assert!(welcome(&config, &addresses, None, true).contains("SharedAccessKey=secret;"));
    }
}
