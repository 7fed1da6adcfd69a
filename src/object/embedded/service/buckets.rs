//! The operations on buckets.

use s3s::dto::*;
use s3s::{S3Result, s3_error};

use super::{Service, io_error};

impl Service {
    pub(super) fn do_head_bucket(&self, input: &HeadBucketInput) -> S3Result<HeadBucketOutput> {
        self.check_bucket(&input.bucket)?;
        Ok(HeadBucketOutput::default())
    }

    pub(super) async fn do_create_bucket(
        &self,
        input: CreateBucketInput,
    ) -> S3Result<CreateBucketOutput> {
        let location = format!("/{}", input.bucket);
        let create = move |service: &Service| {
            let created = service.disk.create_bucket(&input.bucket);
            created.map_err(io_error)
        };
        if !self.blocking(create).await? {
            return Err(s3_error!(
                BucketAlreadyOwnedByYou,
                "Your previous request to create the named bucket succeeded and you already own it."
            ));
        }
        Ok(CreateBucketOutput {
            location: Some(location),
        })
    }

    pub(super) fn do_list_buckets(&self, input: ListBucketsInput) -> S3Result<ListBucketsOutput> {
        let prefix = input.prefix.unwrap_or_default();
        let names = self.disk.buckets();
        let buckets = names
            .into_iter()
            .filter(|name| name.starts_with(&prefix))
            .map(|name| Bucket {
                creation_date: self.disk.created(&name).map(Into::into),
                name: Some(name),
                ..Bucket::default()
            })
            .collect();
        Ok(ListBucketsOutput {
            buckets: Some(buckets),
            ..ListBucketsOutput::default()
        })
    }
}
