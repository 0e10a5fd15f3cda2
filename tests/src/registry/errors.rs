//! Error bodies, word for word: clients show them to people.

use anyhow::Result;
use reqwest::Method;
use wharf_oci::{Digest, MediaType};
use wharf_tests::client::http;

use super::{Answer, Registry, answer, image};

fn told(what: &str, answer: &Answer) -> String {
    let mut text = format!("{what}\n  {}", answer.status);
    for header in ["www-authenticate", "allow", "range", "content-range", "retry-after"] {
        if !answer.header(header).is_empty() {
            text.push_str(&format!("\n  {header}: {}", answer.header(header)));
        }
    }
    format!("{text}\n  {}\n", answer.json())
}

#[tokio::test]
async fn errors_say_what_and_why() -> Result<()> {
    let registry = Registry::start()?;
    let x = Digest::sha256(b"x");
    registry.image("dev/app", "1.0", "a").await?;
    let mut all = String::new();
    for (method, path) in [
        (Method::GET, "dev/app/manifests/none".to_owned()),
        (Method::GET, format!("dev/app/manifests/{x}")),
        (Method::GET, format!("dev/app/blobs/{x}")),
        (Method::GET, "dev/app/blobs/sha256:123".to_owned()),
        (Method::GET, "dev/none/tags/list".to_owned()),
        (Method::GET, "Dev/App/tags/list".to_owned()),
        (Method::GET, "dev/app/tags/list?n=many".to_owned()),
        (Method::GET, "dev/app/blobs/uploads/no-such-upload".to_owned()),
        (Method::GET, "dev/app".to_owned()),
        (Method::POST, "dev/app/tags/list".to_owned()),
        (Method::POST, format!("dev/app/blobs/uploads/?digest={x}")),
        (Method::POST, "dev/app/blobs/uploads/?digest-algorithm=md5".to_owned()),
        (Method::DELETE, "dev/app/manifests/none".to_owned()),
        (Method::DELETE, format!("dev/app/blobs/{}", Digest::sha256(b"layer a"))),
        (Method::PUT, "dev/app/manifests/bad".to_owned()),
    ] {
        let what = format!("{method} {path}");
        all.push_str(&told(&what, &registry.send(registry.request(method, &path)).await?));
    }
    let missing = registry.put_manifest("dev/app", "x", &image(b"no config", &[b"layer a"])).await?;
    all.push_str(&told("PUT a manifest without its config", &missing));
    let request = registry.request(Method::PUT, &format!("dev/app/manifests/{x}"));
    let request = request.header("Content-Type", MediaType::OCI_MANIFEST).body(image(b"x", &[]).to_string());
    all.push_str(&told("PUT a manifest under another digest", &registry.send(request).await?));
    insta::assert_snapshot!(all);
    Ok(())
}

#[tokio::test]
async fn strangers_are_told_where_to_log_in_and_nothing_else() -> Result<()> {
    let registry = Registry::start()?;
    registry.image("dev/app", "1.0", "a").await?;
    let mut all = String::new();
    for path in ["", "_catalog", "dev/app/manifests/1.0", "dev/none/manifests/1.0"] {
        let refused = answer(http().get(format!("{}/v2/{path}", registry.server.url))).await?;
        all.push_str(
            &told(&format!("GET /v2/{path}"), &refused).replace(&registry.server.url, "http://HOST"),
        );
    }
    let all = all.replace(registry.server.host(), "HOST");
    insta::assert_snapshot!(all);
    let post = http().post(format!("{}/v2/dev/app/blobs/uploads/", registry.server.url));
    answer(post).await?.expect(401);
    let wrong = http().get(format!("{}/v2/", registry.server.url)).basic_auth("admin", Some("wrong"));
    answer(wrong).await?.expect(401);
    Ok(())
}
