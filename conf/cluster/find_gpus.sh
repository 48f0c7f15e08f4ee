#!/bin/sh
# Resource discovery script for Spark: prints the GPUs of this host as one line of JSON.
addresses=$(nvidia-smi --query-gpu=index --format=csv,noheader | sed 's/.*/"&"/' | paste -s -d , -)
echo "{\"name\": \"gpu\", \"addresses\": [$addresses]}"
