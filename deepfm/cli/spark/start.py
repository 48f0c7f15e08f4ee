"""The moment at which Spark starts, and may find that its master takes no application from here."""

import signal
import threading

import pyspark
from py4j.protocol import Py4JJavaError
from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

from deepfm.errors import UserError


def started(conf: SparkConf) -> SparkSession:
    """A session whose context is running; UserError where its master takes no application from here.

    All that Spark says of that, a minute later, is that its context has been stopped: of another thread, so
    the context may still be begun, have just been made, or hold a session.
    """
    try:
        context = SparkContext.getOrCreate(conf)
        # A context's own handler asks Java to cancel all jobs in the midst of what it cuts off, and ends in
        # stack traces; what runs ends with the session all the same.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.default_int_handler)
        spark = SparkSession.builder.config(conf=conf).getOrCreate()
        if not context._jsc.sc().isStopped():
            return spark
        refused = None
    except Py4JJavaError as error:
        if "stopped SparkContext" not in str(error):
            raise
        refused = error
    master = conf.get("spark.master")
    raise UserError(
        f"spark.master: expected one that takes this job, found {master}, which does not; "
        f"is its spark.authenticate.secret this job's, and its Spark {pyspark.__version__}?"
    ) from refused
