"""The ready-made descriptions of public logs, each on a few rows in exactly that format."""

import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from deepfm.click_log.click_log import find_click_log
from deepfm.click_log.log_files import LogFile
from deepfm.click_log.parse import parse_rows
from deepfm.click_log.text.ranges import read_tables, split_into_ranges
from deepfm.settings.data import DataSettings
from deepfm.settings.loader import load_settings

CONF = Path(__file__).parents[2] / "conf" / "data"

AVAZU = """id,click,hour,C1,banner_pos,site_id,site_domain,site_category,app_id,app_domain,app_category,\
device_id,device_ip,device_model,device_type,device_conn_type,C14,C15,C16,C17,C18,C19,C20,C21
1000009418151094273,0,14102100,1005,0,1fbe01fe,f3845767,28905ebd,ecad2386,7801e8d9,07d7df22,a99f214a,ddd2926e,44956a24,\
1,2,15706,320,50,1722,0,35,-1,79
10000169349117863715,1,14103023,1005,0,1fbe01fe,f3845767,28905ebd,ecad2386,7801e8d9,07d7df22,a99f214a,96809ac8,711ee120,\
1,0,15704,320,50,1722,0,35,100084,79
"""
KDD12 = (
    "0\t1\t4298118681424644510\t7686695\t385\t3\t3\t1601\t5521\t7709\t576\t490234\n"
    "2\t5\t4860571499428580850\t21560664\t37484\t2\t2\t2255103\t317\t48989\t44771\t490234\n"
)
IPINYOU = """click\tweekday\thour\tbidid\ttimestamp\tlogtype\tipinyouid\tuseragent\tIP\tregion\t\
city\tadexchange\tdomain\turl\turlid\tslotid\tslotwidth\tslotheight\tslotvisibility\tslotformat\tslotprice\tcreative\tbidprice\t\
payprice\tkeypage\tadvertiser\tusertag
0\t4\t00\tfa5af55a\t20130606000104008\t1\tVhTVLQOY\twindows_ie\t118.81.189.*\t15\t16\t2\te80f4ec7\tec0157b7\tnull\t\
mm_3455\t300\t250\tSecondView\tNa\t5\t7323\t294\t201\tnull\t2259\t10057,10059,10083
1\t4\t23\tfa5af55b\t20130606235959999\t1\tnull\tandroid_safari\t118.81.189.*\t15\t16\t2\te80f4ec7\tec0157b7\tnull\t\
mm_3456\t300\t250\tFirstView\tNa\t0\t7323\t294\t201\tnull\t2259\tnull
"""
TAOBAO = """user,time_stamp,adgroup_id,pid,nonclk,clk
581738,1494137644,1,430548_1007,1,0
449818,1494638778,3,430548_1007,0,1
"""
CRITEO = "1\t5\t110\t\t16\t\t1\t0\t14\t7\t1\t\t306\t\t" + "\t".join(["62770d79"] * 26) + "\n"
MOVIELENS = "1::1193::5::978300760\n1::661::3::978302109\n"


def rows_of(log_path, name, **options):
    log = find_click_log(f"file://{log_path}", load_settings(CONF / f"{name}.yaml", DataSettings), **options)
    files = [LogFile(*file) for file in log.list_files()]
    tables = [table for part in split_into_ranges(files, 1 << 20) for table in read_tables(part)]
    rows = parse_rows(pa.concat_tables(tables).combine_chunks(), log.row_format)
    assert not rows.bad.num_rows, rows.bad.to_pylist()
    return rows


def values(rows, name):
    return rows.raw.column(name).to_pylist()


@pytest.fixture
def write(tmp_path):
    def write(text, name="log.txt"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return write


def test_avazu_has_the_days_of_its_hours(write):
    rows = rows_of(write(AVAZU), "avazu")
    assert (rows.labels.tolist(), rows.days.to_pylist()) == ([0, 1], ["2014-10-21", "2014-10-30"])
    assert values(rows, "C20") == ["-1", "100084"]


def test_kdd12_counts_impressions_and_clicks(write):
    rows = rows_of(write(KDD12), "kdd12")
    assert (rows.labels.tolist(), rows.weights.tolist()) == ([0, 1, 0], [1, 2, 3])
    assert values(rows, "ad") == ["7686695", "21560664", "21560664"]


def test_ipinyou_has_chinese_days_and_lists_of_tags(write):
    rows = rows_of(write(IPINYOU), "ipinyou")
    assert (rows.labels.tolist(), rows.days.to_pylist()) == ([0, 1], ["2013-06-06"] * 2)
    assert values(rows, "usertag") == [["10057", "10059", "10083"], None]
    assert values(rows, "slotformat") == [None, None]
    assert rows.seconds.to_pylist() == [1370448064, 1370534399]


def test_taobao_has_chinese_days(write):
    rows = rows_of(write(TAOBAO), "taobao_ad")
    assert (rows.labels.tolist(), rows.days.to_pylist()) == ([0, 1], ["2017-05-07", "2017-05-13"])


def test_criteo_has_a_day_per_file(write, tmp_path):
    for day in (0, 1, 23):
        write(CRITEO, f"day_{day}.gz")
    rows = rows_of(tmp_path, "criteo_1tb")
    assert rows.days.to_pylist() == ["2000-01-01", "2000-01-02", "2000-01-24"]
    assert values(rows, "I3") == [None] * 3


def test_movielens_has_stars_as_labels(write):
    rows = rows_of(write(MOVIELENS), "movielens_1m")
    assert (rows.labels.tolist(), values(rows, "movie")) == ([1, 0], ["1193", "661"])


@pytest.mark.parametrize("name", ["avazu", "ipinyou", "taobao_ad"])
def test_impressions_need_no_label(write, name):
    text = {"avazu": AVAZU, "ipinyou": IPINYOU, "taobao_ad": TAOBAO}[name]
    separator, label = (
        ("\t", "click") if name == "ipinyou" else (",", "clk" if name == "taobao_ad" else "click")
    )
    lines = [line.split(separator) for line in text.splitlines()]
    place = lines[0].index(label)
    without = "".join(separator.join(line[:place] + line[place + 1 :]) + "\n" for line in lines)
    assert rows_of(write(without), name, labelled=False).num_good == 2
