#!/bin/sh
# Spark's discovery script: the GPUs of this host, as the one line of JSON that Spark reads.
addresses=$(nvidia-smi --query-gpu=index --format=csv,noheader | sed 's/.*/"&"/' | paste -s -d , -)
echo "{\"name\": \"gpu\", \"addresses\": [$addresses]}"
