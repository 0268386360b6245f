"""The two roles of cluster.yaml, once for an AWS account: the head may start nodes, workers only use the bucket.

python clusters/aws_role.py BUCKET     with AWS credentials that may make roles; called again, it changes nothing
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import Any

import boto3

HEAD, WORKER = "ctsearch-head", "ctsearch-worker"
BY_EC2 = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


def allow_bucket(bucket: str) -> list[dict[str, Any]]:
    """What a worker may do: read, write and delete in the bucket."""
    arn = f"arn:aws:s3:::{bucket}"
    return [
        {"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetBucketLocation"], "Resource": arn},
        {
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
            "Resource": f"{arn}/*",
        },
    ]


def allow_nodes(worker_arn: str) -> list[dict[str, Any]]:
    """What Ray's autoscaler does on the head besides: start and end nodes, and give them the workers' role."""
    return [
        {"Effect": "Allow", "Action": "ec2:*", "Resource": "*"},
        {"Effect": "Allow", "Action": "ssm:GetParameters", "Resource": "arn:aws:ssm:*::parameter/aws/service/*"},
        {"Effect": "Allow", "Action": "iam:PassRole", "Resource": worker_arn},
        {"Effect": "Allow", "Action": "iam:GetInstanceProfile", "Resource": "*"},
        {
            "Effect": "Allow",
            "Action": "iam:CreateServiceLinkedRole",
            "Resource": "arn:aws:iam::*:role/aws-service-role/*",
        },
    ]


def make_role(iam: Any, name: str, statements: list[dict[str, Any]]) -> str:
    """Make the role and its instance profile, or bring them up to date. Returns the role's ARN."""
    with suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(BY_EC2))
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    iam.put_role_policy(RoleName=name, PolicyName="ctsearch", PolicyDocument=policy)
    with suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_instance_profile(InstanceProfileName=name)
    if not iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Roles"]:
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    return iam.get_role(RoleName=name)["Role"]["Arn"]


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    iam, bucket = boto3.client("iam"), sys.argv[1].removeprefix("s3://").split("/")[0]
    worker_arn = make_role(iam, WORKER, allow_bucket(bucket))
    make_role(iam, HEAD, [*allow_bucket(bucket), *allow_nodes(worker_arn)])
    print(f"{HEAD} and {WORKER} may use {bucket}")


if __name__ == "__main__":
    main()
