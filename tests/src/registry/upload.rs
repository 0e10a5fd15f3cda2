use anyhow::Result;
use reqwest::Method;
use reqwest::header::{CONTENT_RANGE, IF_RANGE, RANGE};
use wharf_oci::Digest;

use super::{Registry, noise, sha512};

impl Registry {
    /// One chunk; returns the answer's status, location and range.
    async fn chunk(&self, location: &str, start: usize, bytes: &[u8]) -> Result<(u16, String, String)> {
        let range = format!("{start}-{}", start + bytes.len() - 1);
        let request = self.request(Method::PATCH, location).header(CONTENT_RANGE, range);
        let answer = self.send(request.body(bytes.to_vec())).await?;
        Ok((answer.status, answer.header("location").to_owned(), answer.header("range").to_owned()))
    }

    pub(super) async fn finish(&self, location: &str, digest: &Digest, last: &[u8]) -> Result<super::Answer> {
        assert!(!location.contains('?'), "the upload's state is in its path: {location}");
        let request = self.request(Method::PUT, &format!("{location}?digest={digest}"));
        self.send(request.body(last.to_vec())).await
    }
}

#[tokio::test]
async fn blobs_come_whole_or_in_chunks_and_go_back_as_they_came() -> Result<()> {
    let registry = Registry::start()?;
    // Empty, kept in a row, on the edge, in a file, larger than every buffer.
    for (i, len) in [0, 1, 4096, 4097, 300_000, 5_000_000].into_iter().enumerate() {
        let bytes = noise(len, i as u64);
        for digest in [Digest::sha256(&bytes), sha512(&bytes)] {
            let started = registry.post("dev/app/blobs/uploads/").await?.expect(202);
            let created = registry.finish(started.header("location"), &digest, &bytes).await?.expect(201);
            assert_eq!(created.header("docker-content-digest"), digest.as_str());
            assert_eq!(created.header("location"), format!("/v2/dev/app/blobs/{digest}"));
            let pulled = registry.get(created.header("location")).await?.expect(200);
            assert_eq!(pulled.header("content-length"), len.to_string());
            assert_eq!(pulled.header("docker-content-digest"), digest.as_str());
            assert!(pulled.body == bytes, "{len} bytes differ");
            let head = registry.head(created.header("location")).await?.expect(200);
            assert_eq!(head.header("content-length"), len.to_string());
            assert!(head.body.is_empty());
        }
    }
    // One request, with either algorithm.
    for (i, digest) in [Digest::sha256(&noise(9000, 77)), sha512(&noise(9000, 77))].iter().enumerate() {
        let path = format!("dev/one{i}/blobs/uploads/?digest={digest}");
        let created =
            registry.send(registry.request(Method::POST, &path).body(noise(9000, 77))).await?.expect(201);
        assert_eq!(created.header("docker-content-digest"), digest.as_str());
    }
    Ok(())
}

#[tokio::test]
async fn chunks_are_taken_in_order_only() -> Result<()> {
    let registry = Registry::start()?;
    let bytes = noise(250_000, 1);
    for digest in [Digest::sha256(&bytes), sha512(&bytes)] {
        let path = format!("dev/app/blobs/uploads/?digest-algorithm={}", digest.algorithm().name());
        let location = registry.post(&path).await?.expect(202).header("location").to_owned();
        let (status, _, range) = registry.chunk(&location, 100_000, &bytes[100_000..200_000]).await?;
        assert_eq!((status, range.as_str()), (416, "0-0"));
        let (status, location, range) = registry.chunk(&location, 0, &bytes[..100_000]).await?;
        assert_eq!((status, range.as_str()), (202, "0-99999"));
        for wrong in [0, 99_999, 100_001, 200_000] {
            let (status, _, range) = registry.chunk(&location, wrong, &bytes[..1000]).await?;
            assert_eq!((status, range.as_str()), (416, "0-99999"), "at {wrong}");
        }
        let asked = registry.get(&location).await?.expect(204);
        assert_eq!(asked.header("range"), "0-99999");
        let (status, location, _) =
            registry.chunk(asked.header("location"), 100_000, &bytes[100_000..200_000]).await?;
        assert_eq!(status, 202);
        // The last chunk may come with the end, and out of order it may not.
        let late = registry
            .request(Method::PUT, &format!("{location}?digest={digest}"))
            .header(CONTENT_RANGE, "1-50000")
            .body(bytes[200_000..].to_vec());
        registry.send(late).await?.expect(416);
        registry.finish(&location, &digest, &bytes[200_000..]).await?.expect(201);
        assert!(registry.get(&format!("dev/app/blobs/{digest}")).await?.body == bytes);
        registry.get(&location).await?.expect(404);
    }
    Ok(())
}

#[tokio::test]
async fn an_upload_outlives_the_server() -> Result<()> {
    let mut registry = Registry::start()?;
    let bytes = noise(600_000, 2);
    let location = registry.post("dev/app/blobs/uploads/").await?.expect(202).header("location").to_owned();
    let (status, location, _) = registry.chunk(&location, 0, &bytes[..400_000]).await?;
    assert_eq!(status, 202);
    registry.server.kill()?;
    registry.server.restart()?;
    let asked = registry.get(&location).await?.expect(204);
    assert_eq!(asked.header("range"), "0-399999");
    registry.finish(&location, &Digest::sha256(&bytes), &bytes[400_000..]).await?.expect(201);
    let pulled = registry.get(&format!("dev/app/blobs/{}", Digest::sha256(&bytes))).await?;
    assert!(pulled.body == bytes);
    Ok(())
}

#[tokio::test]
async fn an_upload_belongs_to_its_repository_and_may_be_given_up() -> Result<()> {
    let registry = Registry::start()?;
    let location = registry.post("dev/app/blobs/uploads/").await?.expect(202).header("location").to_owned();
    registry.get(&location.replace("dev/app", "dev/other")).await?.expect(404);
    registry.delete(&location.replace("dev/app", "dev/other")).await?.expect(404);
    registry.delete(&location).await?.expect(204);
    for method in [Method::GET, Method::PATCH, Method::DELETE] {
        let gone = registry.send(registry.request(method, &location)).await?.expect(404);
        assert!(gone.body.is_empty() || gone.code() == "BLOB_UPLOAD_UNKNOWN");
    }
    Ok(())
}

#[tokio::test]
async fn nobody_leaves_more_uploads_than_the_server_bears() -> Result<()> {
    let registry = Registry::start()?;
    let mut last = String::new();
    for _ in 0..1024 {
        last = registry.post("dev/app/blobs/uploads/").await?.expect(202).header("location").to_owned();
    }
    let refused = registry.post("dev/web/blobs/uploads/").await?.expect(429);
    assert_eq!(refused.code(), "TOOMANYREQUESTS");
    assert!(String::from_utf8_lossy(&refused.body).contains("`admin` has 1024 unfinished uploads"));
    registry.post("qa/app/blobs/uploads/").await?.expect(202);
    // What is sent in one request does not wait, and one that ends makes room.
    registry.blob("dev/app", b"whole").await?;
    registry.finish(&last, &Digest::sha256(b"x"), b"x").await?.expect(201);
    registry.post("dev/web/blobs/uploads/").await?.expect(202);
    Ok(())
}

#[tokio::test]
async fn bytes_that_are_not_what_was_promised_are_refused() -> Result<()> {
    let registry = Registry::start()?;
    let (bytes, other) = (noise(9_000, 3), Digest::sha256(b"other"));
    let path = format!("dev/app/blobs/uploads/?digest={other}");
    let refused = registry.send(registry.request(Method::POST, &path).body(bytes.clone())).await?.expect(400);
    assert_eq!(refused.code(), "DIGEST_INVALID");
    let location = registry.post("dev/app/blobs/uploads/").await?.header("location").to_owned();
    assert_eq!(registry.finish(&location, &other, &bytes).await?.expect(400).code(), "DIGEST_INVALID");
    registry.get(&format!("dev/app/blobs/{other}")).await?.expect(404);
    for digest in ["sha256:zz", "md5:d41d8cd98f00b204e9800998ecf8427e", "nonsense"] {
        let refused = registry.post(&format!("dev/app/blobs/uploads/?digest={digest}")).await?.expect(400);
        assert_eq!(refused.code(), "DIGEST_INVALID");
    }
    registry.post("dev/app/blobs/uploads/?digest-algorithm=md5").await?.expect(400);
    // A length that is not the range's.
    let location = registry.post("dev/app/blobs/uploads/").await?.header("location").to_owned();
    let request = registry.request(Method::PATCH, &location).header(CONTENT_RANGE, "0-99").body(vec![1; 50]);
    assert_eq!(registry.send(request).await?.expect(400).code(), "SIZE_INVALID");
    let request = registry.request(Method::PATCH, &location).header(CONTENT_RANGE, "first").body(vec![1; 50]);
    assert_eq!(registry.send(request).await?.expect(400).code(), "BLOB_UPLOAD_INVALID");
    Ok(())
}

#[tokio::test]
async fn a_mount_moves_no_bytes() -> Result<()> {
    let registry = Registry::start()?;
    let bytes = noise(50_000, 4);
    let digest = registry.blob("dev/app", &bytes).await?;
    let mounted =
        registry.post(&format!("qa/app/blobs/uploads/?mount={digest}&from=dev/app")).await?.expect(201);
    assert_eq!(mounted.header("location"), format!("/v2/qa/app/blobs/{digest}"));
    assert!(registry.get(mounted.header("location")).await?.body == bytes);
    registry.post(&format!("prod/app/blobs/uploads/?mount={digest}")).await?.expect(201);
    // What cannot be mounted is uploaded.
    let missing = Digest::sha256(b"missing");
    for query in [
        format!("mount={missing}&from=dev/app"),
        format!("mount={digest}&from=dev/none"),
        format!("mount={digest}&from=NOT%20A%20NAME"),
        format!("mount={missing}"),
    ] {
        let opened = registry.post(&format!("qa/new/blobs/uploads/?{query}")).await?.expect(202);
        assert!(opened.header("location").starts_with("/v2/qa/new/blobs/uploads/"), "{query}");
    }
    // Each repository lets go on its own.
    registry.delete(&format!("dev/app/blobs/{digest}")).await?.expect(202);
    registry.get(&format!("dev/app/blobs/{digest}")).await?.expect(404);
    assert!(registry.get(&format!("qa/app/blobs/{digest}")).await?.body == bytes);
    Ok(())
}

#[tokio::test]
async fn parts_of_a_blob_can_be_asked_for() -> Result<()> {
    let registry = Registry::start()?;
    for len in [3_000, 300_000] {
        let bytes = noise(len, 5);
        let path = format!("dev/app/blobs/{}", registry.blob("dev/app", &bytes).await?);
        for (asked, from, to) in [
            ("bytes=500-1499".to_owned(), 500, 1500),
            ("bytes=500-".to_owned(), 500, len),
            ("bytes=-500".to_owned(), len - 500, len),
            (format!("bytes=2000-{}", len * 2), 2000, len),
        ] {
            let part =
                registry.send(registry.request(Method::GET, &path).header(RANGE, &asked)).await?.expect(206);
            assert_eq!(part.header("content-range"), format!("bytes {from}-{}/{len}", to - 1));
            assert_eq!(part.header("content-length"), (to - from).to_string());
            assert!(part.body == bytes[from..to], "{asked}");
        }
        for asked in ["bytes=500-0".to_owned(), format!("bytes={len}-")] {
            let refused =
                registry.send(registry.request(Method::GET, &path).header(RANGE, asked)).await?.expect(416);
            assert_eq!(refused.header("content-range"), format!("bytes */{len}"));
        }
        let tag = registry.head(&path).await?.header("etag").to_owned();
        let part =
            |tag: &str| registry.request(Method::GET, &path).header(RANGE, "bytes=1-2").header(IF_RANGE, tag);
        registry.send(part(&tag)).await?.expect(206);
        for other in ["\"sha256:other\"", &format!("W/{tag}"), "Wed, 21 Oct 2015 07:28:00 GMT"] {
            assert!(registry.send(part(other)).await?.expect(200).body == bytes, "{other}");
        }
        let head = registry.send(registry.request(Method::HEAD, &path).header(RANGE, "bytes=1-2")).await?;
        assert_eq!(head.expect(200).header("content-length"), len.to_string(), "only GET has ranges");
        let known = registry.request(Method::GET, &path).header("If-None-Match", tag);
        assert!(registry.send(known).await?.expect(304).body.is_empty());
    }
    Ok(())
}
