"""The look of the page, and its few lines of script: a trial lights up in every chart at once, tables can be sorted."""

from __future__ import annotations

STYLE = """
:root{--ink:#1c2430;--soft:#667085;--line:#e4e7ec;--card:#fff;--back:#f6f7f9;--accent:#0b63ce;--lit:#d6336c;
--completed:#0072b2;--stopped:#98a2b3;--failed:#d55e00;--interrupted:#e69f00;--running:#009e73;--paused:#9467bd}
@media (prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#98a2b3;--line:#2c3442;--card:#171c26;--back:#0f131a;
--accent:#6cb2ff;--lit:#ff6b9d;--completed:#56b4e9;--stopped:#5c6675;--running:#2fc99b;--paused:#b794e8}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);

font:15px/1.5 system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1320px;margin:0 auto;padding:28px 24px 60px}
h1{font-size:28px;line-height:1.2;margin:0;letter-spacing:-.01em}
h2{font-size:17px;margin:0 0 2px}
header{display:flex;gap:14px;align-items:center;flex-wrap:wrap;margin-bottom:4px}
p{margin:0}.sub,.note{color:var(--soft)}.note{font-size:13px;margin-bottom:8px;max-width:150ch}
.badge{font-size:12px;font-weight:600;padding:3px 10px;border-radius:99px;background:var(--line)}
.badge.running{background:var(--running);color:#fff}.badge.ended{background:var(--completed);color:#fff}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(180px,1fr));gap:12px;margin:20px 0 14px}
.tile,.card{background:var(--card);border:1px solid var(--line);border-radius:12px}
.tile{padding:12px 16px}.tile b{display:block;font-size:24px;line-height:1.25;font-variant-numeric:tabular-nums;
letter-spacing:-.01em}.tile span{font-size:12.5px;color:var(--soft)}.tile .what{font-size:13px;color:var(--ink)}
.card{padding:16px 20px;margin:14px 0;overflow:hidden}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(520px,100%),1fr));gap:14px}.two .card{margin:0}
.many{display:grid;grid-template-columns:repeat(auto-fill,minmax(270px,1fr));gap:6px 18px}
.legend{display:flex;gap:16px;flex-wrap:wrap;font-size:13px;color:var(--soft);margin:0 0 14px}
.legend i{display:inline-block;width:10px;height:10px;border-radius:50%;margin-right:6px;background:var(--c)}
.narrow{max-width:760px}
svg{width:100%;height:auto;display:block;overflow:visible}
svg text{font-size:11.5px;fill:var(--soft)}svg .strong{fill:var(--ink);font-weight:600}svg .title{fill:var(--ink)}
.halo{paint-order:stroke;stroke:var(--card);stroke-width:3px}
.grid{stroke:var(--line);stroke-width:1;fill:none}.axis{stroke:var(--soft);stroke-width:1;fill:none}
.line{fill:none;stroke:var(--c,var(--stopped));stroke-width:1.2;stroke-opacity:.4;stroke-linejoin:round}
.dot{fill:var(--card);stroke:var(--c,var(--stopped));stroke-width:1.5}
.completed{--c:var(--completed)}.stopped{--c:var(--stopped)}.failed{--c:var(--failed)}
.interrupted{--c:var(--interrupted)}.running{--c:var(--running)}.paused{--c:var(--paused)}.fresh{--c:var(--accent)}
.dot.completed,.dot.full,.dot.passed{fill:var(--c,var(--stopped))}.dot.passed{fill-opacity:.5;stroke:none}
.line.lit{stroke:var(--lit);stroke-width:2.2;stroke-opacity:.95}.dot.lit{stroke:var(--lit);fill:var(--lit)}
.line.best{stroke:var(--ink);stroke-opacity:.75;stroke-width:1.6}
.line.running,.line.fresh{stroke-opacity:.8;stroke-width:3}.line.promoted{stroke-width:1;stroke-opacity:.3}
.line.promoted.lit{stroke-width:2;stroke-opacity:.9}
.bar{fill:var(--accent);fill-opacity:.75}
.shade{stroke-width:1.1;stroke-opacity:.35}.s0,.s1,.s2{stroke:var(--stopped);stroke-opacity:.22}
.s3,.s4,.s5{stroke:#7aa6d6}.s6,.s7{stroke:var(--accent);stroke-opacity:.55}
.s8{stroke:var(--lit);stroke-opacity:.9;stroke-width:1.8}
[data-t]{cursor:pointer}.focus .line[data-t]:not(.on){stroke-opacity:.07}.focus .dot[data-t]:not(.on){opacity:.15}
.line.on{stroke:var(--lit);stroke-width:2.8;stroke-opacity:1}.dot.on{stroke:var(--ink);stroke-width:2}
.scroll{overflow:auto;max-height:560px;margin:8px -20px -16px;border-top:1px solid var(--line)}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums;width:100%}
th,td{padding:5px 10px;text-align:left;white-space:nowrap;border-bottom:1px solid var(--line)}
th{position:sticky;top:0;background:var(--card);cursor:pointer;font-weight:600}td.n,th.n{text-align:right}
tr.on td{background:color-mix(in srgb,var(--lit) 14%,transparent)}

tr.lit td:first-child{color:var(--lit);font-weight:700}
td .chip{font-size:12px;padding:1px 8px;border-radius:99px;border:1px solid var(--c);color:var(--c)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 18px;margin:6px 0 0;font-size:14px}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}a{color:var(--accent)}
footer{color:var(--soft);font-size:12.5px;margin-top:22px}
@media print{.scroll{max-height:none;overflow:visible}.card{break-inside:avoid}}
"""

SCRIPT = """
(() => {
  let held = null;
  const show = trial => {
    document.body.classList.toggle('focus', trial !== null);
    document.querySelectorAll('.on').forEach(e => e.classList.remove('on'));
    if (trial !== null) document.querySelectorAll(`[data-t="${trial}"]`).forEach(e => e.classList.add('on'));
  };
  const of = event => event.target.closest('[data-t]')?.dataset.t ?? null;
  document.addEventListener('mouseover', event => { if (held === null) show(of(event)); });
  document.addEventListener('click', event => {
    if (event.target.closest('th,a')) return;
    const trial = of(event);
    held = trial === held ? null : trial;
    show(held);
  });
  document.querySelectorAll('th').forEach(head => head.addEventListener('click', () => {
    const body = head.closest('table').tBodies[0], column = head.cellIndex;
    const sign = head.dataset.sign = head.dataset.sign === '1' ? '-1' : '1';
    const key = row => row.cells[column].dataset.v ?? row.cells[column].textContent;
    const order = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === '' || y === '') return (x === '') - (y === '');
      return sign * (isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y);
    };
    [...body.rows].sort(order).forEach(row => body.append(row));
  }));
})();
"""
