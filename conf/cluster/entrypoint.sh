#!/bin/bash
# Of the image: Spark's scheduler starts an executor pod with the word `executor` and says the rest in variables;
# any other words are a command, such as the driver's spark-submit.
set -euo pipefail

if [ "${1:-}" != executor ]; then
    exec "$@"
fi
# Spark unpacks files and archives of a job into the folder it starts in, and this user cannot write the image's. The
# scratch volume, which Spark mounts into every executor, is empty and its own.
scratch=${SPARK_LOCAL_DIRS:-/tmp}
cd "$(mktemp -d "${scratch%%,*}/executor.XXXXXX")"
options=()
while IFS= read -r name; do
    options+=("${!name}")
done < <(compgen -v SPARK_JAVA_OPT_ | sort -t _ -k 4 -n)
exec java "${options[@]}" "-Xms$SPARK_EXECUTOR_MEMORY" "-Xmx$SPARK_EXECUTOR_MEMORY" \
    -cp "${SPARK_CONF_DIR:-$SPARK_HOME/conf}:$SPARK_HOME/jars/*" \
    org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend \
    --driver-url "$SPARK_DRIVER_URL" --executor-id "$SPARK_EXECUTOR_ID" --cores "$SPARK_EXECUTOR_CORES" \
    --app-id "$SPARK_APPLICATION_ID" --hostname "$SPARK_EXECUTOR_POD_IP" \
    --resourceProfileId "$SPARK_RESOURCE_PROFILE_ID" --podName "$SPARK_EXECUTOR_POD_NAME"
