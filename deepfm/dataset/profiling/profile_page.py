"""Profile page (profile.html): a dataset's profile as one page without scripts or external files."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deepfm import html as pages
from deepfm import storage
from deepfm.dataset.profiling.dataset_profile import DatasetProfile, Rows
from deepfm.dataset.profiling.field_profile import FieldProfile

PAGE = "profile.html"
_COLOURS = {"train": "tab:blue", "valid": "tab:orange", "test": "tab:green", "outside": "tab:gray"}
#: Maximum number of tick labels on a plot.
_MAX_NAMES = 15

_BODY = """<p>Built from {{ profile.log_url }}</p>
{% for warning in profile.warnings %}
<p class="warning"><b>{{ warning.name }}</b> {{ warning.text }}</p>
{% else %}
<p>No warnings.</p>
{% endfor %}

<h2>Rows</h2>
<table>
<tr><th>split</th><th>rows</th><th>CTR</th></tr>
{% for rows in profile.splits %}
<tr><td>{{ rows.split }}</td><td>{{ rows.num_rows | thousands }}</td><td>{{ rows.ctr | digits }}</td></tr>
{% endfor %}
</table>
{% if profile.days %}
<img alt="Rows and CTR by day" src="{{ day_plot }}">
<table>
<tr><th>day</th><th>split</th><th>rows</th><th>CTR</th></tr>
{% for rows in profile.days %}
<tr><td>{{ rows.day }}</td><td>{{ rows.split }}</td><td>{{ rows.num_rows | thousands }}</td>
<td>{{ rows.ctr | digits }}</td></tr>
{% endfor %}
</table>
{% endif %}

<h2>Rejected rows</h2>
{% if profile.set_aside %}
<table>
<tr><th>reason</th><th>rows</th><th class="text">examples</th></tr>
{% for rejected in profile.set_aside %}
<tr><td>{{ rejected.reason }}</td><td>{{ rejected.num_rows | thousands }}</td>
<td class="text">{% for text in rejected.examples %}<code>{{ text }}</code><br>{% endfor %}</td></tr>
{% endfor %}
</table>
{% else %}
<p>None.</p>
{% endif %}

<h2>Fields</h2>
<p>Unknown: rare in the training rows, or absent from them. AUC: on the validation rows; the score is the CTR
of the training rows with the same value (0.5: no information, 1: perfect order). First known values: the most
frequent ones; in a grown dataset, those of the base dataset.</p>
<table>
<tr><th>field</th><th class="text">kind</th><th>values</th><th>known ids</th><th>ids in training</th>
<th>missing</th><th>unknown: training</th><th>validation</th><th>test</th><th>mean</th><th>std</th>
<th>AUC</th></tr>
{% for field in profile.fields %}
<tr><td>
{%- if field.top %}<a href="#{{ field.name }}">{{ field.name }}</a>{% else %}{{ field.name }}{% endif %}</td>
<td class="text">{{ field.kind }}</td>
<td>{{ field.num_values | thousands }}</td><td>{{ field.num_known_ids | thousands }}</td>
<td>{{ field.num_ids_seen | thousands }}
{%- if field.is_cross %} ({{ (field.num_ids_seen / field.num_known_ids) | percent }}){% endif %}</td>
<td>{{ field.missing.train | percent }}</td><td>{{ field.unknown.train | percent }}</td>
<td>{{ field.unknown.valid | percent }}</td><td>{{ field.unknown.test | percent }}</td>
<td>{{ field.mean | digits }}</td><td>{{ field.std | digits }}</td>
<td>{{ field.valid_auc | digits }}</td></tr>
{% endfor %}
</table>
{% for field in profile.fields if field.top %}
<h3 id="{{ field.name }}">{{ field.name }}</h3>
<div class="field">
<table>
<tr><th>{{ "most frequent" if field.buckets else "first known" }} values</th>
<th>training rows</th><th>share</th><th>CTR</th></tr>
{% for value in field.top %}
<tr><td><code>{{ value.name }}</code></td><td>{{ value.num_rows | thousands }}</td>
<td>{{ value.share | percent }}</td><td>{{ value.ctr | digits }}</td></tr>
{% endfor %}
</table>
{% if field.buckets %}
<img alt="Share and CTR by value of {{ field.name }}" src="{{ bucket_plots[field.name] }}">
{% endif %}
</div>
{% endfor %}
"""


def profile_page(profile: DatasetProfile) -> str:
    """Render a profile as HTML with embedded plots."""
    return pages.render_page(
        f"Dataset {profile.digest}",
        _BODY,
        profile=profile,
        day_plot=pages.image_data_uri(_day_plot(profile.days)) if profile.days else "",
        bucket_plots={f.name: pages.image_data_uri(_bucket_plot(f)) for f in profile.fields if f.buckets},
    )


def write_page(url: str, profile: DatasetProfile) -> None:
    """Write profile.html into a dataset's folder."""
    storage.write_bytes(f"{url}/{PAGE}", profile_page(profile).encode())


def _day_plot(days: tuple[Rows, ...]) -> Figure:
    """Plot rows and CTR of each day; for training days, of the rows that were kept."""
    days = tuple(rows for rows in days if rows.split in _COLOURS)
    figure = Figure(figsize=(min(4 + 0.3 * len(days), 12), 3.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    colours = [_COLOURS[rows.split] for rows in days]
    upper.bar(range(len(days)), [rows.num_rows for rows in days], color=colours)
    upper.set_ylabel("rows")
    for split in dict.fromkeys(rows.split for rows in days):
        upper.bar(0, 0, color=_COLOURS[split], label=split)
    upper.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    draw_ctr(lower, [rows.ctr for rows in days], colours)
    _label_ticks(lower, [rows.day for rows in days])
    return figure


def _bucket_plot(field: FieldProfile) -> Figure:
    """Plot share and CTR of each bucket."""
    figure = Figure(figsize=(5, 3))
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.bar(range(len(field.buckets)), [bucket.share for bucket in field.buckets], color="lightgray")
    upper.set_ylabel("share")
    draw_ctr(lower, [bucket.ctr for bucket in field.buckets], ["tab:blue"] * len(field.buckets))
    _label_ticks(lower, [bucket.name for bucket in field.buckets])
    figure.subplots_adjust(left=0.15, right=0.97, top=0.97, bottom=0.3)
    return figure


def draw_ctr(axes: Axes, ctrs: list[float | None], colours: list[str]) -> None:
    """Plot CTRs against their index, from 0; None: no rows, no point."""
    known = [index for index, ctr in enumerate(ctrs) if ctr is not None]
    heights = [ctr for ctr in ctrs if ctr is not None]
    axes.plot(known, heights, color="lightgray", zorder=1)
    axes.scatter(known, heights, color=[colours[index] for index in known], s=14, zorder=2)
    # From 0 to above the highest CTR, also if the CTR hardly changes.
    axes.set_ylim(0, 1.15 * max(heights, default=0) or 1)
    axes.set_ylabel("CTR")


def _label_ticks(axes: Axes, names: list[str]) -> None:
    step = -(-len(names) // _MAX_NAMES)
    axes.set_xticks(range(0, len(names), step), names[::step], rotation=60, ha="right", fontsize="small")
