"""Start of the Spark context, and detection of a master that refuses the application."""

import re
import signal
import threading

import pyspark
from py4j.protocol import Py4JJavaError
from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

from deepfm.errors import UserError
from deepfm.spark.internals import is_stopped

#: What Java's exceptions say when Spark stops a context that starts, depending on the moment.
_STOPPED = re.compile(
    "stopped SparkContext|SparkContext (was|has been) shut ?down|Application has been killed|"
    "All masters are unresponsive"
)


def start_session(conf: SparkConf) -> SparkSession:
    """Start a context and a session. Raises UserError if the master refuses the application.

    Spark reports a refusal only after a minute and only as "stopped SparkContext". It stops the context from
    another thread, so the context may still be starting, or have just started, or already have a session.
    """
    try:
        context = SparkContext.getOrCreate(conf)
        # The context's own SIGINT handler asks Java to cancel all jobs in the middle of an interrupted call,
        # which prints stack traces. The running jobs end with the session anyway.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.default_int_handler)
        spark = SparkSession.builder.config(conf=conf).getOrCreate()
        if not is_stopped(context):
            return spark
        cause = None
    except Py4JJavaError as error:
        if not _STOPPED.search(str(error)):
            raise
        cause = error
    raise UserError(
        f"spark.master: {conf.get('spark.master')} refused this job; "
        f"check that it has the job's spark.authenticate.secret and runs Spark {pyspark.__version__}"
    ) from cause
