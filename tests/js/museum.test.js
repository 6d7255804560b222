import assert from 'node:assert/strict';
import test from 'node:test';
import { CASES, STEP } from '../../book/_static/js/diagnosis-cases.js';
import { answer, linesOf, mend, score } from '../../book/_static/js/diagnosis.js';
import { RUNS } from '../../book/_static/js/lottery-runs.js';
import { bins, chances, count, mean, PAIRS, study, verdict } from '../../book/_static/js/lottery.js';

/** Numbers that look random and are the same in every run. */
function generator(seed = 1) {
  let state = seed;
  return () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
}

for (const one of CASES) {
  test(`case ${one.room}: what is shown is wrong somewhere, and the repair leads to the correct step`, () => {
    const lines = linesOf(one);
    assert.ok(lines.some(line => line.wrong) && lines.some(line => !line.wrong));
    assert.ok(Object.keys(one.edits).every(name => STEP.some(([known]) => known === name)));
    const texts = (...marks) => mend(one).filter(({ mark }) => marks.includes(mark)).map(({ text }) => text);
    assert.deepEqual(texts('', '−'), lines.map(({ text }) => text));
    assert.deepEqual(texts('', '+'), STEP.map(([, text]) => text));
  });

  test(`case ${one.room}: a wrong line is answered with yes, any other with no and a reason`, () => {
    for (const line of linesOf(one)) {
      const said = answer(one, line);
      if (line.wrong) assert.equal(said, `Yes, that is the bug. ${one.because}`);
      else assert.match(said, /^No\. [A-ZT].{15,}\.$/);
    }
  });
}

test('the score says nothing before the first case is done', () => {
  assert.equal(score(0, 0), '');
  assert.equal(score(2, 3), 'Found at the first click: 2 of 3.');
});

test('in each comparison the first method has the larger mean', () => {
  for (const [worse, better] of PAIRS) assert.ok(mean(RUNS[worse]) > mean(RUNS[better]));
});

test('with one seed the chances are those of all pairs of runs', () => {
  for (const pair of PAIRS) {
    const differences = RUNS[pair[0]].flatMap(a => RUNS[pair[1]].map(b => a - b));
    const { wrong, tie } = chances(pair, 1);
    assert.ok(Math.abs(wrong - differences.filter(d => d < 0).length / 1600) < 1e-12);
    assert.ok(Math.abs(tie - differences.filter(d => d === 0).length / 1600) < 1e-12);
  }
});

test('drawn studies come out as the chances say, and more seeds are wrong less often', () => {
  for (const pair of PAIRS) {
    let before = 1;
    for (const k of [1, 2, 3, 5, 10]) {
      const random = generator(k), studies = Array.from({ length: 20000 }, () => study(pair, k, random));
      const { wrong, tie } = chances(pair, k), seen = count(studies);
      assert.ok(Math.abs(seen.wrong / seen.all - wrong) < 0.012, `${pair}, ${k}: ${seen.wrong} ${wrong}`);
      assert.ok(Math.abs(seen.tie / seen.all - tie) < 0.012);
      assert.ok(wrong < before);
      before = wrong;
    }
  }
});

test('a study draws runs of its methods, and as many as it says', () => {
  const { worse, better, difference } = study(PAIRS[1], 5, generator());
  assert.equal(worse.length + better.length, 10);
  assert.ok(worse.every(errors => RUNS[PAIRS[1][0]].includes(errors)));
  assert.ok(better.every(errors => RUNS[PAIRS[1][1]].includes(errors)));
  assert.ok(Math.abs(difference - mean(worse) + mean(better)) < 1e-12);
});

test('the heap has every study but the ties, the wrong ones left of zero', () => {
  const studies = [-3, -2, -0.5, 0, 0.5, 2, 2.5].map(difference => ({ difference }));
  assert.deepEqual([...bins(studies)], [[-2, 1], [-1, 2], [0, 2], [1, 1]]);
  assert.deepEqual(count(studies), { all: 7, wrong: 3, tie: 1 });
});

test('the verdict names the winner of the study, and what all seeds say', () => {
  const said = (a, b) => verdict(PAIRS[1], { worse: [a], better: [b], difference: a - b });
  const numbers = '“label smoothing 170.0, distilled 180.0 errors';
  assert.ok(said(170, 180).startsWith(`${numbers}: label smoothing wins.” Wrong. Over all 40 seeds`));
  assert.match(said(180, 170), /distilled wins\.” Right\./);
  assert.match(said(180, 180), /^“A tie:/);
});
