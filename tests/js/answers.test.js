import assert from 'node:assert/strict';
import test from 'node:test';
import { duration, verdict } from '../../book/_static/js/answers.js';

test('durations with two digits that matter', () => {
  assert.deepEqual([0.0341, 1.239, 14.9, 120].map(duration), ['0.034 ms', '1.2 ms', '15 ms', '120 ms']);
});

/** The four networks, each sure of one digit. */
function networks(teacher, distilled, labels, tiny) {
  const sure = digit => Array.from({ length: 10 }, (_, i) => (i === digit ? 9 : 0));
  return [
    { key: 'teacher', name: 'Teacher', logits: sure(teacher) },
    { key: 'distilled', name: 'Distilled student', logits: sure(distilled) },
    { key: 'labels', name: 'Label-trained student', logits: sure(labels) },
    { key: 'tiny', name: 'Tiny network', logits: sure(tiny) },
  ];
}

test('the verdict says who says what, and whether the students differ', () => {
  assert.equal(verdict(networks(7, 7, 7, 7)), 'All of them say 7.');
  assert.equal(verdict(networks(8, 8, 1, 8)),
    'The two students disagree: teacher, distilled student and tiny network say 8; label-trained student says 1.');
  assert.equal(verdict(networks(0, 5, 3, 3)),
    'The two students disagree: teacher says 0; distilled student says 5; '
      + 'label-trained student and tiny network say 3.');
  assert.equal(verdict(networks(4, 4, 4, 9)),
    'Not all agree: teacher, distilled student and label-trained student say 4; tiny network says 9.');
  assert.equal(verdict(networks(4, 9, 9, 9)),
    'Not all agree: teacher says 4; distilled student, label-trained student and tiny network say 9.');
});

test('an empty sheet has no verdict', () => {
  const empty = networks(1, 1, 1, 1).map(network => ({ ...network, logits: null }));
  assert.equal(verdict(empty), 'Nothing is drawn.');
});
