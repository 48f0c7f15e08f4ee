"""Private APIs of PySpark 3.5 and 4.0: the JVM, its gateway, and what the Python API does not expose.

No other module uses them. tests/test_vendor_versions.py fails when the version of PySpark changes.
"""

from collections.abc import Mapping

from py4j.java_gateway import JavaGateway, JavaObject, JVMView
from pyspark import SparkConf, SparkContext
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession


def is_jvm_running() -> bool:
    """Whether this process is connected to a JVM."""
    return SparkContext._gateway is not None


def connect_jvm(gateway: JavaGateway | None = None) -> None:
    """Use `gateway` for all contexts of this process; without one, the JVM of spark-submit or a new one."""
    SparkContext._ensure_initialized(gateway=gateway)


def launch_jvm(conf: SparkConf, popen_options: Mapping[str, object] | None = None) -> JavaGateway:
    """Start a JVM with the properties of `conf`; `popen_options` are arguments of subprocess.Popen."""
    return launch_gateway(conf, popen_options and dict(popen_options))


def set_login_user(name: str) -> None:
    """Log in to Hadoop under a name: its own login fails for a user id without a name."""
    users = jvm().org.apache.hadoop.security.UserGroupInformation
    users.setLoginUser(users.createRemoteUser(name))


def jvm() -> JVMView:
    """Return the view of the JVM's packages; requires `connect_jvm` or a context."""
    return SparkContext._jvm


def is_stopped(context: SparkContext) -> bool:
    """Whether the JVM's context was stopped, by this process or by Spark itself."""
    return context._jsc.sc().isStopped()


def is_local(spark: SparkSession) -> bool:
    """Whether the tasks run in the driver's process (master local[N])."""
    return spark.sparkContext._jsc.sc().isLocal()


def num_task_slots(spark: SparkSession) -> int:
    """Return the number of tasks that the registered executors can run at once."""
    context = spark.sparkContext._jsc.sc()
    return context.maxNumConcurrentTasks(context.resourceProfileManager().defaultResourceProfile())


def executor_addresses(spark: SparkSession) -> list[tuple[str, int]]:
    """Return host and port of every executor, the driver included."""
    tracker = spark.sparkContext._jsc.sc().statusTracker()
    return [(executor.host(), executor.port()) for executor in tracker.getExecutorInfos()]


def hadoop_configuration(spark: SparkSession) -> JavaObject:
    """Return the org.apache.hadoop.conf.Configuration of a session."""
    return spark.sparkContext._jsc.hadoopConfiguration()


def max_partition_bytes(spark: SparkSession) -> int:
    """Return spark.sql.files.maxPartitionBytes in bytes, whatever unit it was set in."""
    return spark._jsparkSession.sessionState().conf().filesMaxPartitionBytes()
