// The cases of the figure at the museum's entrance. tests/test_museum_page.py runs each of them, asks
// check_distillation about it, and compares its numbers with what the room has printed.

/** A correct training step, line by line: a name, the line, and why it may stay. */
export const STEP = [
  ['loader', 'loader = DataLoader(train_set, batch_size=128, shuffle=True)',
    'A shuffled order is right, as long as the teacher answers for the images of the same batch.'],
  ['networks', 'teacher, student = load_teacher(), new_student()',
    'The trained network is the teacher, the new one the student.'],
  ['optimizer', 'optimizer = torch.optim.SGD(student.parameters(), lr=0.1)',
    'The optimizer holds the student and nothing else.'],
  ['mode', 'teacher.eval()', 'It puts the teacher’s dropout and batch norm to rest.'],
  ['loop', 'for images, labels in loader:', 'Both networks see the same batch.'],
  ['train', '    student.train()', 'The student has to be in training mode.'],
  ['student', '    s = student(images)', 'These are the student’s logits.'],
  ['no_grad', '    with torch.no_grad():', 'Nothing flows back into the teacher.'],
  ['teacher', '        t = teacher(images)', 'These are the teacher’s logits for the same images.'],
  ['log_q', '    log_q = F.log_softmax(s / T, dim=1)', 'These are the student’s log-probabilities, at T.'],
  ['log_p', '    log_p = F.log_softmax(t / T, dim=1)', 'The teacher is softened at the same T.'],
  ['kl', '    kl = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)',
    'The student stands first, the sum is divided by the number of images, the target is known to be a logarithm.'],
  ['loss', '    loss = 0.9 * T**2 * kl + 0.1 * F.cross_entropy(s, labels)',
    'T² keeps the soft term’s gradient at its size, and the hard term takes logits at T = 1.'],
  ['step', '    optimizer.zero_grad(); loss.backward(); optimizer.step()', 'These three, in this order.'],
];

const wrong = text => ({ text, wrong: true });
const changed = text => ({ text, wrong: false });

/**
 * `edits` puts other lines in the place of a line of STEP, or none. `wrong` are those that a reader may rightly
 * suspect. `row` is the room's name in the museum's tables.
 */
export const CASES = [
  {
    room: '5', title: 'mean or batchmean', row: '5 mean instead of batchmean',
    symptom: 'The training loss falls from 0.439 to 0.0898 and ends lower than that of the correct step (0.143). The '
      + 'soft term looks small in the log. The student makes 613 errors; labels alone make 405.',
    edits: { kl: [wrong('    kl = F.kl_div(log_q, log_p, reduction="mean", log_target=True)')] },
    because: '"mean" divides by the number of classes, too. The soft term is C times too small.',
  },
  {
    room: '6', title: 'The missing T²', row: '6 T² missing',
    symptom: 'The training loss falls from 0.345 to 0.0829 and looks healthy. The student makes 705 errors; labels '
      + 'alone make 405.',
    edits: { loss: [wrong('    loss = 0.9 * kl + 0.1 * F.cross_entropy(s, labels)')] },
    because: 'Without T² the soft term is T² times too small.',
  },
  {
    room: '8', title: 'The teacher that was never told to stop training', row: '8 teacher in train mode',
    symptom: 'The training loss ends at 0.991 instead of 0.143. Asked twice about the same images, the teacher gives '
      + 'probabilities that differ by up to 0.53.',
    edits: { mode: [], train: [wrong('    student.train(); teacher.train()')] },
    because: 'In training mode dropout removes other units of the teacher in every pass.',
  },
  {
    room: '10', title: 'Batch norm drifts in a frozen teacher', row: null,
    symptom: 'The images to learn from are 7s and 8s only. The teacher’s parameters take no gradient. It makes 198 '
      + 'errors before the distillation and 1337 after it.',
    edits: { mode: [wrong('teacher.requires_grad_(False)')] },
    because: 'This stops the gradients. The running mean and variance of batch norm stop moving in eval mode only.',
  },
  {
    room: '4', title: 'A logarithm too many', row: '4 log_target forgotten',
    symptom: 'The printed loss is nan from the first step on, and training goes on. In the end the student gives every '
      + 'image the same class: 9013 errors.',
    edits: { kl: [wrong('    kl = F.kl_div(log_q, log_p, reduction="batchmean")')] },
    because: 'Without log_target=True the teacher’s log-probabilities are taken for probabilities.',
  },
  {
    room: '7', title: 'Probabilities where logits belong', row: "7a teacher's softmax twice",
    symptom: 'The training loss starts at 0.19 and hardly falls, to 0.151. The student makes 709 errors; labels alone '
      + 'make 405.',
    edits: { teacher: [wrong('        t = teacher(images).softmax(dim=1)')] },
    because: 'These are probabilities. The softmax at T runs a second time and makes the teacher nearly indifferent.',
  },
  {
    room: '3', title: 'Arguments swapped', row: '3 arguments swapped',
    symptom: 'The training loss falls from 2.05 to 0.192. Nothing in the log looks wrong. The student makes 312 '
      + 'errors; with the correct step it makes 283.',
    edits: { kl: [wrong('    kl = F.kl_div(log_p, log_q, reduction="batchmean", log_target=True)')] },
    because: 'kl_div takes the student’s log-probabilities first. This is KL(student ‖ teacher).',
  },
  {
    room: '9', title: 'The teacher that learns from its student', row: '9 gradients into the teacher',
    symptom: 'The training loss is small from the first epoch on: it falls from 0.326 to 0.0989. The teacher makes 198 '
      + 'errors before and 3249 after. The student makes 2237.',
    edits: {
      optimizer: [wrong('optimizer = torch.optim.SGD([*teacher.parameters(), *student.parameters()], lr=0.1)')],
      no_grad: [],
      teacher: [wrong('    t = teacher(images)')],
    },
    because: 'Two lines belong to this bug: the teacher’s logits carry a gradient, and the optimizer holds'
      + ' the teacher, too.',
  },
  {
    room: '14', title: 'Teacher and student swapped', row: '14 teacher and student swapped',
    symptom: 'The training loss falls from 0.53 to 0.22. The student makes 8927 errors of 10,000. The teacher made 198 '
      + 'before and makes 1474 now.',
    edits: { networks: [wrong('student, teacher = load_teacher(), new_student()')] },
    because: 'The trained network learns from the untrained one.',
  },
  {
    room: '11', title: 'Stored logits in another order', row: '11 stored logits in another order',
    symptom: 'The training loss is 12.4 in the first epoch and 12.4 in the last. The student makes 7255 errors.',
    edits: {
      no_grad: [],
      teacher: [],
      loop: [
        changed('with torch.no_grad():'),
        wrong('    stored = [teacher(images) for images, _ in loader]'),
        wrong('for (images, labels), t in zip(loader, stored):'),
      ],
    },
    because: 'The loader shuffles anew in every pass, so the stored rows belong to other images than those of the batch.',
  },
];
