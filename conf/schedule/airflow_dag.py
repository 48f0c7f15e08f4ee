"""DAGs for Airflow 2.9 and later: score each day, and train a candidate each week.

Copy this file into Airflow's folder of DAGs. It requires apache-airflow-providers-apache-spark and a
connection `ctr_spark`. Its host is Spark's master and overrides the profile's (Airflow's `spark_default` is
YARN):

    airflow connections add ctr_spark --conn-type spark --conn-host 'local[2]'

The Airflow variable `ctr` contains paths and names as JSON. `data` describes your log, `key` is a column that
identifies an impression:

    {"home": "/opt/ctr", "log": "hdfs:///ctr/log", "scores": "hdfs:///ctr/scores",
     "datasets": "hdfs:///ctr/datasets", "data": "conf/data/mine.yaml", "model": "conf/model/deepfm.yaml",
     "name": "ctr_deepfm", "workers": 2, "key": "impression_id", "profile": "conf/profile/local.yaml"}

Exit statuses of the jobs: 0 done (drift is reported as a warning); 1 may succeed when retried (unreachable
MLflow, lost workers); 2 do not retry, fix the input (invalid input or configuration, out of memory).
SparkSubmitOperator does not distinguish 1 and 2 and retries both. A retry is safe: a published day and a
finished dataset are not changed. To score days on which Airflow was down:

    airflow dags backfill -s FIRST -e LAST ctr_score_daily

The PATH of the worker must start with the virtual environment's bin folder: it determines spark-submit and
the Python of the jobs. Relative paths in the package's profiles, such as sqlite:///work/mlflow.db, start from
the worker's working directory; those in a profile of your own start from its folder.
"""

from datetime import datetime, timedelta

from airflow import DAG
from airflow.models.param import Param
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.timetables.interval import CronDataIntervalTimetable

HOME = "{{ var.json.ctr.home }}"
COMMON_FLAGS = ["--profile", f"{HOME}/{{{{ var.json.ctr.profile }}}}"]
MODEL = "{{ var.json.ctr.name }}"
DEFAULTS = {
    "owner": "ctr",
    "retries": 3,
    "retry_delay": timedelta(minutes=10),
    "retry_exponential_backoff": True,
    "execution_timeout": timedelta(hours=4),
}


def days_ago(num_days: int) -> str:
    """Template of the date `num_days` before the run starts; the log of that day is complete."""
    return f"{{{{ macros.ds_add(data_interval_end | ds, -{num_days}) }}}}"


def submit(job: str, *flags: str, **settings) -> SparkSubmitOperator:
    """Task that runs jobs/JOB.py."""
    return SparkSubmitOperator(
        task_id=job,
        conn_id="ctr_spark",
        driver_memory="4g",  # spark-submit starts Java before the job reads its profile
        application=f"{HOME}/jobs/{job}.py",
        application_args=[*flags, *COMMON_FLAGS],
        name=f"ctr-{job}",
        **settings,
    )


with DAG(
    dag_id="ctr_score_daily",
    description="Score the impressions of the previous day with the champion",
    schedule=CronDataIntervalTimetable("0 3 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    params={"max_psi": Param(0.5, type="number", description="Do not publish scores with a higher PSI")},
    tags=["ctr"],
) as daily:
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
    description="Build features of the last 30 days, train a candidate, and compare it with the champion",
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
