"""The report's style sheet: the window's colours, light and dark as the reader's system is, and on paper."""

from __future__ import annotations

STYLE = """
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--line:#e3e6eb;--text:#1b1f2e;--muted:#5f677a;--faint:#878fa1;
--accent:#2f6f6a;--accent-soft:#eff7f6;--accent-line:#8fbdb8;--good:#1a7347;--good-soft:#e2f3ea;--warn:#8f5b06;
--warn-soft:#fdf3dc;--bad:#b3261e;--bad-soft:#fdecea;--chip:#eef0f3;--track:#e6e9ee;--base:#b8c0cc}
@media (prefers-color-scheme:dark){:root{--page:#14181d;--card:#1b2027;--line:#2c333d;--text:#e8ebf0;--muted:#a0a8b6;
--faint:#7b8492;--accent:#4fa39b;--accent-soft:#1d2c2e;--accent-line:#35706b;--good:#74cf9e;--good-soft:#173326;
--warn:#e5b567;--warn-soft:#382c14;--bad:#f08a80;--bad-soft:#3b2020;--chip:#272e38;--track:#2c333d;--base:#6b7482}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--text);font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Noto Sans","PingFang SC","Microsoft YaHei","Noto Sans CJK SC",sans-serif;-webkit-text-size-adjust:100%}
main{max-width:1080px;margin:0 auto;padding:40px 24px 64px}
header{margin-bottom:28px}
.brand{color:var(--faint);font-size:13px;letter-spacing:.04em}
h1{font-size:28px;line-height:1.25;margin:6px 0 10px;font-weight:650;overflow-wrap:anywhere}
h2{font-size:18px;margin:0 0 4px;font-weight:650}
h3{font-size:14px;margin:20px 0 8px;font-weight:600;color:var(--muted)}
p{margin:0 0 10px;max-width:72ch}
.muted{color:var(--muted)}.small{font-size:13px}.faint{color:var(--faint)}
.chips{display:flex;flex-wrap:wrap;gap:8px}
.chip{background:var(--chip);border-radius:999px;padding:3px 12px;font-size:13px;color:var(--muted);max-width:100%;
overflow-wrap:anywhere}
.chip.good{background:var(--good-soft);color:var(--good)}.chip.warn{background:var(--warn-soft);color:var(--warn)}
.chip.bad{background:var(--bad-soft);color:var(--bad)}
section{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:24px 28px;margin:0 0 18px}
.verdict{display:flex;gap:20px;justify-content:space-between;align-items:flex-start;flex-wrap:wrap}
.verdict .sentence{font-size:22px;line-height:1.35;font-weight:600;max-width:60ch;margin:0}
.tiles{display:grid;grid-template-columns:repeat(6,1fr);gap:12px;margin-top:20px}
.tile{background:var(--page);border-radius:10px;padding:14px 16px}
.tile b{display:block;font-size:20px;line-height:1.2;font-weight:650;font-variant-numeric:tabular-nums}
.tile:first-child{grid-column:span 2}.tile:first-child b{font-size:24px}
.tile span{color:var(--muted);font-size:13px}
.scroll{overflow-x:auto;margin-top:14px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:14px}
th{font-weight:600;color:var(--muted);text-align:right;padding:8px 10px;border-bottom:1px solid var(--line);
white-space:nowrap}
td{padding:8px 10px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left;padding-left:0;white-space:normal}
th:last-child,td:last-child{padding-right:0}
tr:last-child td{border-bottom:0}
td small{color:var(--faint);font-size:12px;display:block}
.good{color:var(--good)}.warn{color:var(--warn)}.bad{color:var(--bad)}
.advice{background:var(--warn-soft);color:var(--warn);border-radius:10px;padding:10px 14px;margin:14px 0 0}
svg{display:block;max-width:100%;height:auto}
svg text{fill:var(--muted);font:12px system-ui,-apple-system,"Segoe UI","PingFang SC","Microsoft YaHei",sans-serif}
svg .name{fill:var(--text);font-size:13px}
.fill-base{fill:var(--base)}.fill-tuned{fill:var(--accent)}.fill-track{fill:var(--track)}.fill-bad{fill:var(--bad)}
.fill-good{fill:var(--good)}.whisker{stroke:var(--text);stroke-width:1.2;opacity:.55}
.grid{stroke:var(--line);stroke-width:1}.curve{fill:none;stroke:var(--accent);stroke-width:2;stroke-linejoin:round}
.curve.raw{stroke:var(--accent-line);stroke-width:1;opacity:.6}.held{fill:var(--card);stroke:var(--warn);stroke-width:2}
.curve.held-line{stroke:var(--warn);stroke-width:1.6;fill:none}
.key{display:flex;gap:18px;flex-wrap:wrap;font-size:13px;color:var(--muted);margin:8px 0 4px}
.key i{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:7px;vertical-align:-1px}
.k-base{background:var(--base)}.k-tuned{background:var(--accent)}.k-held{background:var(--warn)}
.k-tie{background:var(--track)}
details{border-top:1px solid var(--line);padding:10px 0}
details:first-of-type{border-top:0}
summary{cursor:pointer;overflow-wrap:anywhere;list-style-position:outside;margin-left:18px}
summary .where{color:var(--faint);font-size:12px;margin-left:8px}
.turn{white-space:pre-wrap;overflow-wrap:anywhere;margin:0}
.asked{margin:10px 0 12px 18px}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:12px;margin:10px 0 6px 18px}
.side{background:var(--page);border-radius:10px;padding:12px 14px;min-width:0}
.side.tuned{background:var(--accent-soft)}
.side h4,.asked h4{margin:0 0 4px;font-size:12px;font-weight:600;color:var(--muted)}
.pair .wide{grid-column:1/-1}
dl{display:grid;grid-template-columns:max-content 1fr;gap:6px 20px;margin:0;font-size:14px}
dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere}
pre{background:var(--page);border-radius:10px;padding:14px 16px;overflow-x:auto;font:12.5px/1.5 ui-monospace,Menlo,
Consolas,monospace;margin:8px 0 0;white-space:pre-wrap;overflow-wrap:anywhere}
code{font:12.5px ui-monospace,Menlo,Consolas,monospace;overflow-wrap:anywhere}
footer{color:var(--faint);font-size:13px;text-align:center;margin-top:28px}
footer p{margin:0 auto 4px}
@media (max-width:720px){main{padding:24px 14px 40px}section{padding:18px 16px}.pair{grid-template-columns:1fr}
.tiles{grid-template-columns:repeat(2,1fr)}section{overflow-x:auto}
.scroll table{min-width:600px}svg{min-width:560px}dl{grid-template-columns:1fr;gap:2px}dd{margin-bottom:8px}}
@media print{:root{--page:#fff;--card:#fff;--text:#000;--muted:#444;--faint:#666;--line:#ccc;--chip:#f2f2f2}
body{font-size:11pt}main{max-width:none;padding:0}section{border:0;border-top:1px solid var(--line);border-radius:0;
padding:14px 0;break-inside:auto}h2,h3,summary{break-after:avoid}tr,svg,.side,.tile{break-inside:avoid}
.tile,.side,pre{background:#f6f6f6}}
"""
