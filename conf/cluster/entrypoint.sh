#!/bin/bash
# Entry point of the image. Spark starts an executor pod with the argument `executor` and its settings in environment
# variables. Any other arguments are a command, such as spark-submit in the driver's pod.
set -euo pipefail

if [ "${1:-}" != executor ]; then
    exec "$@"
fi
# Spark unpacks the files and archives of a job into the working directory. This user cannot write the folder of the
# image, but the scratch volume that Spark mounts into every executor.
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
