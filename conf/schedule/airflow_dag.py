"""Two schedules for Airflow 2.9 and later: every night a day is scored, every week a candidate is trained.

Copy into Airflow's folder of DAGs; it needs apache-airflow-providers-apache-spark and a connection
`ctr_spark`, whose host is Spark's master and wins over the profile's (Airflow's `spark_default` is YARN):

    airflow connections add ctr_spark --conn-type spark --conn-host 'local[2]'

The Airflow variable `ctr` says where things are, as JSON; `data` describes your log, `key` is a column of it
that tells impressions apart:

    {"home": "/opt/ctr", "log": "hdfs:///ctr/log", "scores": "hdfs:///ctr/scores",
     "datasets": "hdfs:///ctr/datasets", "data": "conf/data/mine.yaml", "model": "conf/model/deepfm.yaml",
     "name": "ctr_deepfm", "workers": 2, "key": "impression_id", "profile": "conf/profile/local.yaml"}

A job's exit status is its contract: 0 done (drift is reported as a warning), 2 invalid input or
configuration, which a retry would repeat, 1 any other failure, such as an unreachable MLflow. A day that is
published already, or a dataset that is built, is left alone, so a task may be tried again at any moment. For
nights in which Airflow was off: airflow dags backfill -s FIRST -e LAST ctr_score_nightly.

The worker's PATH begins with the virtual environment's bin folder, by which spark-submit finds its Spark and
the jobs their Python. Relative paths of the profile, such as sqlite:///work/mlflow.db, are the worker's own.
"""

from datetime import datetime, timedelta

from airflow import DAG
from airflow.models.param import Param
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.timetables.interval import CronDataIntervalTimetable

HOME = "{{ var.json.ctr.home }}"
WHERE = ["--profile", f"{HOME}/{{{{ var.json.ctr.profile }}}}"]
MODEL = "{{ var.json.ctr.name }}"
DEFAULTS = {
    "owner": "ctr",
    "retries": 3,
    "retry_delay": timedelta(minutes=10),
    "retry_exponential_backoff": True,
    "execution_timeout": timedelta(hours=4),
}


def days_ago(num_days: int) -> str:
    """A day before the one on which the run starts; its log is whole by then."""
    return f"{{{{ macros.ds_add(data_interval_end | ds, -{num_days}) }}}}"


def submit(job: str, *flags: str, **settings) -> SparkSubmitOperator:
    """One of jobs/, as a task."""
    return SparkSubmitOperator(
        task_id=job,
        conn_id="ctr_spark",
        driver_memory="4g",  # spark-submit starts Java before the job reads its profile
        application=f"{HOME}/jobs/{job}.py",
        application_args=[*flags, *WHERE],
        name=f"ctr-{job}",
        **settings,
    )


with DAG(
    dag_id="ctr_score_nightly",
    description="The champion's probabilities of yesterday's impressions",
    schedule=CronDataIntervalTimetable("0 3 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    params={"max_psi": Param(0.5, type="number", description="Publish nothing where scores drift further")},
    tags=["ctr"],
) as nightly:
    submit(
        "score",
        "--date",
        days_ago(1),
        "--model-uri",
        f"models:/{MODEL}@champion",
        "--input",
        "{{ var.json.ctr.log }}",
        "--output",
        "{{ var.json.ctr.scores }}",
        "--keep",
        "{{ var.json.ctr.key }}",
        "--key",
        "{{ var.json.ctr.key }}",
        "--max-psi",
        "{{ params.max_psi }}",
    )

with DAG(
    dag_id="ctr_train_weekly",
    description="Features of the last weeks, a candidate, and the gate",
    schedule=CronDataIntervalTimetable("0 6 * * 1", timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    tags=["ctr"],
) as weekly:
    dataset = f"{{{{ var.json.ctr.datasets }}}}/{days_ago(1)}"
    features = submit(
        "build_features",
        "--data",
        f"{HOME}/{{{{ var.json.ctr.data }}}}",
        "--input",
        "{{ var.json.ctr.log }}",
        "--output",
        dataset,
        "--train-days",
        f"{days_ago(30)}:{days_ago(3)}",
        "--valid-days",
        days_ago(2),
        "--test-days",
        days_ago(1),
    )
    train = submit(
        "train",
        "--dataset",
        dataset,
        "--model",
        f"{HOME}/{{{{ var.json.ctr.model }}}}",
        "--num-workers",
        "{{ var.json.ctr.workers }}",
        "--name",
        MODEL,
        "--retries",
        "1",
        execution_timeout=timedelta(hours=12),
    )
    promote = submit("promote", "--name", MODEL)
    features >> train >> promote
