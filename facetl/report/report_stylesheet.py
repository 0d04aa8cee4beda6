"""The style sheet of the report: light and dark, screen and paper. Set into the page itself."""

from __future__ import annotations

STYLESHEET = """\
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ground: #ffffff; --ink: #1f2430; --muted: #626975; --rule: #e3e5ea;
  --accent: #1d5f8a; --tint: #eef4f8; --plot-paper: var(--paper);
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #14171c; --ground: #14171c; --ink: #e6e8ec; --muted: #98a0ad; --rule: #2b3038;
    --accent: #6db3e2; --tint: #1b242d;
    --plot-ink: #e6e8ec; --plot-muted: #98a0ad; --plot-rule: #2b3038; --plot-grey: #6c7480;
    --plot-accent: #6db3e2; --plot-warm: #ec9461; --plot-cool: #83c0aa;
    --plot-person0: #6db3e2; --plot-person1: #ec9461; --plot-person2: #83c0aa; --plot-person3: #c197d6;
    --plot-person4: #dcb84e; --plot-person5: #ee86a3; --plot-person6: #76c7de; --plot-person7: #a9bb5c;
    --plot-person8: #c6a08f; --plot-person9: #929fee;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif;
}
main { max-width: 62rem; margin: 0 auto; padding: 4.5rem 2rem 3rem; }
header { max-width: 46rem; }
.eyebrow { margin: 0; color: var(--accent); font-size: .8rem; font-weight: 600; letter-spacing: .06em; }
h1 {
  margin: .35rem 0 1rem; font-size: 2.3rem; line-height: 1.15; font-weight: 650;
  letter-spacing: -.02em; overflow-wrap: anywhere;
}
.lede { margin: 0; font-size: 1.15rem; line-height: 1.6; color: var(--ink); }
section { margin-top: 3.5rem; }
h2 { margin: 0 0 1.1rem; font-size: 1.2rem; font-weight: 650; letter-spacing: -.01em; }
h3 { margin: 1.8rem 0 .8rem; font-size: .95rem; font-weight: 600; }
.aside { margin-left: .5rem; color: var(--muted); font-weight: 400; }
.note, figcaption { color: var(--muted); font-size: .88rem; line-height: 1.5; }
.note { max-width: 46rem; margin: .9rem 0 0; }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td {
  padding: .62rem .9rem; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--rule);
}
th:first-child, td:first-child { padding-left: .8rem; }
thead th {
  color: var(--muted); font-size: .82rem; font-weight: 500; vertical-align: bottom; line-height: 1.3;
}
thead th, tbody tr:last-child > * { border-bottom-color: var(--muted); }
tbody th { font-weight: 500; }
th.number, td.number { text-align: right; }
.under { display: block; font-size: .78rem; }
.error { margin-left: .4em; color: var(--muted); font-size: .86em; }
.main > * { background: var(--tint); font-weight: 650; }
.main .error { font-weight: 400; }
.results th, .results td { padding-inline: .6rem; }
.results .chart { width: 10rem; padding-right: 0; }
.results .error { display: inline-block; line-height: 1.3; }
.scale { display: flex; justify-content: space-between; font-size: .75rem; }
.scale i { font-style: normal; }
.interval { display: block; width: 100%; min-width: 8rem; height: 1rem; }
.interval .track { stroke: var(--rule); stroke-width: 1; }
.interval .tick { stroke: var(--muted); stroke-width: 1; }
.interval .whisker { stroke: var(--muted); stroke-width: 2; stroke-linecap: round; }
.interval circle { fill: var(--muted); }
.main .interval .whisker { stroke: var(--accent); }
.main .interval circle { fill: var(--accent); }
figure { margin: 0; }
.figures {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: 2.5rem;
}
.plot svg { display: block; width: 100%; height: auto; overflow: visible; }
.plot svg * { stroke-linejoin: round; stroke-linecap: butt; }
.plot svg text {
  font-family: inherit; paint-order: stroke; stroke: var(--paper); stroke-width: 2.5px;
  stroke-linejoin: round;
}
.plot figcaption { margin-top: .7rem; max-width: 46rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: 1.6rem 1.4rem; }
.faces { display: grid; grid-template-columns: 1fr 1fr; gap: 3px; }
.faces img {
  display: block; width: 100%; aspect-ratio: 1; object-fit: cover; background: var(--rule);
  border-radius: 3px;
}
.card figcaption {
  display: flex; justify-content: space-between; gap: .8rem; margin-top: .45rem; font-size: .84rem;
  line-height: 1.4;
}
.card bdi { min-width: 0; color: var(--ink); overflow-wrap: anywhere; }
.distance { font-variant-numeric: tabular-nums; }
.settings { columns: 20rem; column-gap: 2.5rem; margin: 0; font-size: .9rem; }
.settings div {
  display: flex; justify-content: space-between; gap: 1.2rem; padding: .36rem 0;
  border-bottom: 1px solid var(--rule); break-inside: avoid;
}
.settings dt { color: var(--muted); flex: none; }
.settings dd { margin: 0; text-align: right; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
footer {
  margin-top: 4rem; padding-top: 1rem; border-top: 1px solid var(--rule); color: var(--muted);
  font-size: .84rem;
}
@media (max-width: 40rem) {
  main { padding: 2.5rem 1.1rem; } h1 { font-size: 1.8rem; } .results .chart { display: none;
}
@media (max-width: 40rem) { .wide.plot { overflow-x: auto; } .wide.plot svg { min-width: 38rem; } }
@media print {
  body { font-size: 11pt; }
  main { max-width: none; padding: 0; }
  section { margin-top: 2rem; }
  h2, h3 { break-after: avoid; }
  figure, tr, .card { break-inside: avoid; }
  .main > *, .faces img, .interval { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
