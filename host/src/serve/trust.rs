//! What a client's machine needs so that it trusts the server's own authority.

use std::net::SocketAddr;

use crate::api;

/// Lines to paste on a client's machine. Nothing of the server's is there: the authority's certificate is fetched from a server that
/// is not trusted yet, and so compared by its fingerprint. `names` are those of the settings file.
pub(super) fn lines(names: &[String], address: SocketAddr, fingerprint: &str) -> String {
    let given = names.iter().find(|name| !name.starts_with("*."));
    let name = given.cloned().unwrap_or_else(|| api::host_name(address.ip()));
    let host = if name.contains(':') { format!("[{name}]") } else { name };
    let at = format!("{host}:{}", address.port());
    let mut lines = format!(
        "this server's certificate is signed by its own authority; to trust it, on a client's machine:\n\
         \x20 curl --insecure -o ca.crt https://{at}/ca.crt\n\
         \x20 openssl x509 -in ca.crt -noout -fingerprint -sha256\n\
         \x20 # it has to be {fingerprint}\n\
         \x20 sudo install -D -m 644 ca.crt /etc/docker/certs.d/{at}/ca.crt  # docker\n\
         \x20 sudo install -D -m 644 ca.crt /etc/containers/certs.d/{at}/ca.crt  # podman, skopeo\n\
         \x20 wharf login --ca ca.crt https://{at}"
    );
    if address.ip().is_unspecified() && names.is_empty() {
        lines.push_str(&format!(
            "\nthe certificate is for {}; hint: what else clients reach this server by is told in the settings file (--config):\n\
             \x20 [tls]\n\
             \x20 mode = \"auto\"\n\
             \x20 names = [\"registry.example.com\", \"192.0.2.10\"]",
            api::default_names(address.ip(), names).join(", ")
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(names: &[&str], address: &str) -> String {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        lines(&names, address.parse().unwrap(), "AB:CD")
    }

    /// Regression: the lines named the server's own files, which a client's machine does not have.
    #[test]
    fn the_lines_need_nothing_of_the_servers_machine() {
        insta::assert_snapshot!(told(&[], "192.0.2.7:5443"), @r"
        this server's certificate is signed by its own authority; to trust it, on a client's machine:
          curl --insecure -o ca.crt https://192.0.2.7:5443/ca.crt
          openssl x509 -in ca.crt -noout -fingerprint -sha256
          # it has to be AB:CD
          sudo install -D -m 644 ca.crt /etc/docker/certs.d/192.0.2.7:5443/ca.crt  # docker
          sudo install -D -m 644 ca.crt /etc/containers/certs.d/192.0.2.7:5443/ca.crt  # podman, skopeo
          wharf login --ca ca.crt https://192.0.2.7:5443
        ");
        assert!(told(&[], "[2001:db8::1]:5443").contains(" https://[2001:db8::1]:5443/ca.crt\n"));
    }

    /// Regression: a server that listens on all addresses is in its certificate by none of them, and did not say so.
    #[test]
    fn who_listens_on_all_addresses_is_told_to_name_them() {
        let hint = "hint: what else clients reach this server by";
        let told_of_none = told(&[], "0.0.0.0:5443");
        assert!(told_of_none.contains(hint) && told_of_none.contains("\n  names = ["), "{told_of_none}");
        let named = told(&["*.example.com", "registry.example.com"], "0.0.0.0:5443");
        assert!(named.contains(" https://registry.example.com:5443/ca.crt\n"), "{named}");
        for named in [named, told(&[], "192.0.2.7:5443")] {
            assert!(!named.contains(hint), "{named}");
        }
        // The address listened on is in the certificate.
        let names = api::default_names([192, 0, 2, 7].into(), &[]);
        assert!(names.contains(&"192.0.2.7".to_owned()), "{names:?}");
    }
}
