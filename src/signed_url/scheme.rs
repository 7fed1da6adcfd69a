//! The ways in which stores sign URLs.

/// How a URL is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UrlScheme {
    /// AWS Signature Version 4 in the query; also Cloudflare R2 and most S3-compatible stores.
    AwsSigv4,
    /// AWS Signature Version 2 in the query.
    AwsSigv2,
    /// Google Cloud Storage, V4.
    GcsV4,
    /// Google Cloud Storage, V2.
    GcsV2,
    /// Amazon CloudFront, canned or custom policy.
    CloudFront,
    /// Azure shared access signature.
    AzureSas,
    /// Alibaba Cloud OSS, V1 or V4.
    Oss,
    /// Tencent Cloud COS.
    TencentCos,
    /// An Akamai token in the query or the path.
    Akamai,
    /// A Bunny token in the query or the path.
    Bunny,
    /// A JSON Web Token in the query or the path.
    Jwt,
    /// No signature that we know.
    None,
}

impl UrlScheme {
    /// The public name.
    pub fn as_str(self) -> &'static str {
        match self {
            UrlScheme::AwsSigv4 => "aws-sigv4",
            UrlScheme::AwsSigv2 => "aws-sigv2",
            UrlScheme::GcsV4 => "gcs-v4",
            UrlScheme::GcsV2 => "gcs-v2",
            UrlScheme::CloudFront => "cloudfront",
            UrlScheme::AzureSas => "azure-sas",
            UrlScheme::Oss => "oss",
            UrlScheme::TencentCos => "tencent-cos",
            UrlScheme::Akamai => "akamai",
            UrlScheme::Bunny => "bunny",
            UrlScheme::Jwt => "jwt",
            UrlScheme::None => "none",
        }
    }
}
