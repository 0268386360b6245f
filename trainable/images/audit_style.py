"""The style sheet of the audit's page: light and dark, for screens of any width and for paper."""

STYLE = """
:root{--ink:#1b2430;--soft:#5d6b7c;--line:#e3e8ee;--card:#fff;--page:#f5f7fa;--error:#c62f3b;--warning:#b86a00;
--note:#5d6b7c;--clean:#1f7a4d;--accent:#2f6fb3;--tint-error:#fdeeee;--tint-warning:#fff5e5;--tint-clean:#e9f6ef}
@media (prefers-color-scheme:dark){:root{--ink:#e6ebf1;--soft:#9aa8b8;--line:#2c3641;--card:#1b222a;--page:#12171d;
--error:#ff7a83;--warning:#f0b25c;--note:#9aa8b8;--clean:#6fd3a0;--accent:#7db3ea;--tint-error:#3a2023;
--tint-warning:#3a2e1c;--tint-clean:#1c3328}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,"Segoe UI",Roboto,Helvetica,Arial,sans-serif}
main{max-width:1080px;margin:0 auto;padding:40px 24px 56px}
h1{font-size:34px;line-height:1.2;margin:0 0 14px;letter-spacing:-.02em;overflow-wrap:anywhere}
h2{font-size:20px;margin:0;letter-spacing:-.01em}
h3{font-size:15px;margin:0;overflow-wrap:anywhere}
small,.help,.over,footer{color:var(--soft)}
.over{margin:0 0 2px;text-transform:uppercase;letter-spacing:.09em;font-size:12px}
.help{margin:2px 0 14px}
.verdict{display:inline-block;margin:0;padding:7px 14px;border-radius:8px;font-weight:600}
.verdict.clean{color:var(--clean);background:var(--tint-clean)}
.verdict.warning{color:var(--warning);background:var(--tint-warning)}
.verdict.error{color:var(--error);background:var(--tint-error)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(120px,1fr));gap:12px;margin:24px 0 36px}
.tile{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px 16px}
.tile b{display:block;font-size:26px;line-height:1.2;font-variant-numeric:tabular-nums}
.tile span{color:var(--soft)}
.tile.error b{color:var(--error)}.tile.warning b{color:var(--warning)}
section{margin:0 0 40px}
.finding{display:flex;gap:14px;background:var(--card);border:1px solid var(--line);border-left:4px solid var(--note);
border-radius:10px;padding:14px 16px;margin:0 0 10px;break-inside:avoid}
.finding.error{border-left-color:var(--error)}.finding.warning{border-left-color:var(--warning)}
.finding>div{min-width:0}
.finding p{margin:2px 0 0;color:var(--soft)}
.badge{flex:0 0 76px;font-size:13px;font-weight:600;padding-top:1px;color:var(--note)}
.error .badge{color:var(--error)}.warning .badge{color:var(--warning)}
details{margin-top:6px}summary{cursor:pointer;color:var(--accent);font-size:14px}
details ul{margin:6px 0 0;padding-left:20px;font:13px/1.6 ui-monospace,Consolas,monospace;overflow-wrap:anywhere}
.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:12px}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:11px 16px;border-top:1px solid var(--line);vertical-align:middle;
font-variant-numeric:tabular-nums}
tr:first-child th{border-top:0;color:var(--soft);font-weight:500;font-size:13px}
.bar{height:6px;border-radius:3px;background:var(--line);margin-bottom:5px;min-width:90px}
.bar i{display:block;height:6px;border-radius:3px;background:var(--accent)}
.warned th,.warned td:nth-child(2){color:var(--warning)}
.gauge{position:relative;width:210px;height:14px;border-radius:7px;background:var(--line)}
.gauge u{position:absolute;top:0;height:14px;border-radius:7px;background:var(--accent);opacity:.28}
.gauge i{position:absolute;top:1px;width:12px;height:12px;margin-left:-6px;border-radius:6px;background:var(--accent)}
.gauge s{position:absolute;top:-3px;width:2px;height:20px;margin-left:-1px;background:var(--soft)}
.warned .gauge u,.warned .gauge i{background:var(--warning)}
.pairs{display:grid;grid-template-columns:repeat(auto-fill,minmax(310px,1fr));gap:14px}
.pair{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:12px;break-inside:avoid}
.pair.crossing{border-color:var(--warning)}
.pair p{margin:0 0 8px;font-size:13px;color:var(--soft)}
.pair>div{display:grid;grid-template-columns:1fr 1fr;gap:10px}
.tag{display:inline-block;margin-left:4px;padding:1px 7px;border-radius:9px;color:var(--warning);
background:var(--tint-warning)}
figure{margin:0;min-width:0}
figure img,.lost{width:100%;aspect-ratio:1;object-fit:contain;background:#000;border-radius:6px;display:block}
.lost{color:#9aa8b8;display:grid;place-items:center;font-size:13px}
figcaption{font-size:12.5px;line-height:1.4;margin-top:6px;color:var(--soft);overflow-wrap:anywhere}
figcaption b{color:var(--ink)}
.sources{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:14px}
.source{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px 16px}
.source h3{margin-bottom:10px;text-transform:capitalize}
.stacked{margin:0 0 8px}.stacked span{font-size:13px;color:var(--soft)}
.stacked div{display:flex;height:12px;border-radius:6px;overflow:hidden;background:var(--line)}
.legend{display:flex;flex-wrap:wrap;gap:4px 14px;margin:12px 0 0;font-size:13px;color:var(--soft)}
.legend i{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:6px}
.c0{background:#2f6fb3}.c1{background:#e3a63a}.c2{background:#4c9f70}.c3{background:#a45ca8}.c4{background:#8a96a3}
.empty{color:var(--soft);background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px 16px;
margin:0}
footer{border-top:1px solid var(--line);padding-top:16px;font-size:13px}
@media print{body{background:#fff}main{max-width:none;padding:0}}
"""
