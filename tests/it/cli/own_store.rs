//! The archive's own object store is no origin.

use secrecy::ExposeSecret as _;

use crate::harness::binary;
use crate::harness::s3::{BUCKET, TestS3};

// S16
#[tokio::test]
async fn an_event_can_not_name_the_archives_own_store() {
    let folder = tempfile::tempdir().unwrap();
    let s3 = TestS3::start().await;
    let config = binary::configure(folder.path(), "");
    let text = std::fs::read_to_string(&config).unwrap();
    let bucket = format!(
        "[archive]\nbucket = \"{BUCKET}\"\nregion = \"us-east-1\"\nendpoint = \"{}\"\n",
        s3.endpoint()
    );
    std::fs::write(&config, text.replace("[archive]\n", &bucket)).unwrap();
    let credentials = s3.credentials();
    let env = [
        ("AWS_ACCESS_KEY_ID", credentials.access_key.as_str()),
        (
            "AWS_SECRET_ACCESS_KEY",
            credentials.secret_key.expose_secret(),
        ),
    ];
    let direct = format!("{}/{BUCKET}/recording.mp4", s3.endpoint());
    let named = direct.replace("127.0.0.1", "localhost");
    assert_ne!(direct, named);
    for url in [&direct, &named] {
        let (printed, code) = binary::finish_with(&config, &["archive", "--json", url], &env).await;
        assert_eq!(code, Some(1), "{printed}");
        assert!(printed.contains(r#""class":"refused""#), "{url}: {printed}");
    }
}
