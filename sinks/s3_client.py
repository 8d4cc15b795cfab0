"""boto3's client of whatever bucket `wallaby.flow.bucket.BucketOptions` name."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.config import Config

from wallaby.flow.bucket import BucketOptions


def s3_client(options: BucketOptions, **settings: Any) -> Any:
    """A client; close it. ``settings``: more of botocore's ``Config``."""
    return boto3.session.Session().client(
        "s3",
        region_name=options.known_region,
        endpoint_url=options.endpoint,
        aws_access_key_id=options.access_key,
        aws_secret_access_key=options.secret_key,
        aws_session_token=options.session_token,
        config=Config(
            # Servers that are not Amazon's may not know the newer checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"} if options.force_path_style else None,
            **settings,
        ),
    )


__all__ = ["s3_client"]
