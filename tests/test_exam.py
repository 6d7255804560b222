"""The reader's exam: what somebody asks who has read no chapter, and whether the book leads them to a right answer.

Each question has a short answer, most of them in the FAQ, and a section where it is measured or derived. The words that
decide are looked for in both, where words can tell a right answer from a wrong one.
"""

import re
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import Tag

from tests.pages import PAGES, parsed, wait_until
from tests.test_search import FIND

pytestmark = [pytest.mark.site, pytest.mark.slow, pytest.mark.usefixtures("built")]

FIRST = 5  # results of the search that a reader looks at


class Question(NamedTuple):
    words: str  # as somebody types them into the search
    answer: str  # page and id of the short answer
    says: str | None  # a pattern of it that a wrong one has not; None where a pattern could not tell
    wrong: str | None  # such a wrong one
    shown: str  # how the page begins, and the id of the section where it is measured or derived
    proof: str | None = None  # what is to stand there


EXAM = [
    Question(
        "loss ten times",
        "faq#faq-loss-scale",
        r"\bmean divides by the number of classes too",
        "batchmean divides by the number of classes too",
        "03#trap-4-mean-is-not-the-mean",
        r"number of entries, \\\(N \\cdot C\\\)",
    ),
    Question(
        "kl symmetric",
        "faq#faq-argument-order",
        r"The student\. The call is kl_div\(student, teacher\) and computes KL\(teacher ‖ student\)",
        "The teacher. The call is kl_div(teacher, student) and computes KL(teacher ‖ student)",
        "03#trap-1-the-order-of-the-arguments",
        r"F\.kl_div\(log_q, log_p, .*reduction=\"batchmean\", log_target=True",
    ),
    Question(
        "negative loss",
        "faq#faq-negative-loss",
        "A KL divergence is never negative, up to rounding",
        "A KL divergence is negative where the student is surer than its teacher",
        "03#three-numbers-for-two-answers",
        "So KL is never negative",
    ),
    Question(
        "teacher train mode batch norm",
        "faq#faq-teacher-mode",
        r"requires_grad_\(False\) does not stop batch norm",
        "requires_grad_(False) stops batch norm as well",
        "05#room-10-batch-norm-drifts-in-a-frozen-teacher",
        r"requires_grad=False`? does not stop batch norm",
    ),
    Question(
        "labels needed",
        "faq#faq-labels-needed",
        r"The teacher needed some\. The student does not",
        "The teacher needed some. The student needs as many",
        "09#pictures-without-labels",
        r"soft_weight=1\.0",
    ),
    Question(
        "student beat teacher",
        "faq#faq-better-than-teacher",
        "It can beat it, yes",
        "It cannot: the teacher is the best that a student can become",
        "01#break-it-bad-teachers",
        "its students make fewer errors than it does",
    ),
    Question(
        "better teacher always",
        "faq#faq-bigger-teacher",
        "A better teacher does not always help",
        "A better teacher always helps",
        "07#which-teacher",
    ),
    Question(
        "T² alone",
        "faq#faq-t-squared",
        "Where it stands alone, .+ scales every gradient alike. With SGD that is another learning rate",
        "Where it stands alone, the balance moves with T",
        "05#room-6-the-missing-t2",
        r"Where the soft term stands alone, \\\(T\^2\\\) only scales the gradient",
    ),
    Question(
        "temperature tiny student",
        "faq#faq-choose-temperature",
        "lower for a narrow student",
        "between 2 and 4, higher for a narrow student",
        "07#which-student-at-which-temperature",
    ),
    Question(
        "temperature inference",
        "faq#faq-inference-temperature",
        r"At \\\(T = 1\\\), at inference as in every test",
        "At the temperature of the distillation, at inference as in every test",
        "05#room-13-the-student-in-the-wrong-state",
        "-softened = logits / temperature",
    ),
    Question(
        "cached logits augmentation",
        "faq#faq-cached-logits",
        "if each row is looked up by its example",
        "if the loader keeps the order of the first epoch",
        "05#room-12-stored-logits-moving-images",
    ),
    Question(
        "architecture input size",
        "faq#faq-architectures",
        "Only the outputs are compared",
        "The hidden layers are compared, so both must be of one kind",
        "09#another-input-size",
    ),
    Question(
        "other classes than the teacher",
        "faq#faq-other-classes",
        r"matched by name: classes=\(names of the student.s, names of the teacher.s\)",
        "matched by name: classes=(names of the teacher's, names of the student's)",
        "09#other-classes-than-the-teacher-s",
        r"classes=\(mine, theirs\)",
    ),
    Question(
        "fp16",
        "faq#faq-half-precision",
        "Store logits",
        "Store probabilities",
        "02#break-it-a-teacher-that-is-too-sure",
        "store logits, never probabilities",
    ),
    Question(
        "MSE",
        "faq#faq-mse",
        "the difference of the logits, over the number of classes, once each side.s mean is taken off",
        "the difference of the logits, times the number of classes",
        "03#high-matching-the-logits",
        r"\\frac\{s_i - t_i\}\{C\}",
    ),
    Question(
        "how many seeds 0.2 %",
        "faq#faq-how-many-seeds",
        "0.2 % on 10,000 test images is 20 errors",
        "0.2 % on 10,000 test images is 2 errors",
        "07#how-small-a-gain-could-these-seeds-have-shown",
        r"\(t_\{0\.975,\\,n-1\} \+ t_\{0\.8,\\,n-1\}\)",
    ),
    Question(
        "teacher trained with label smoothing",
        "faq#faq-smoothed-teacher",
        "make no more errors than others, and teach much worse",
        "make no more errors than others, and teach as well",
        "06#what-the-labels-bring-and-what-the-kind-of-teacher",
    ),
    Question(
        "multi-label sigmoid",
        "faq#faq-other-heads",
        "multi-label, a sigmoid for each",
        "multi-label, a softmax over all of them",
        "09#yes-or-no-and-many-labels-at-once",
        "the soft term binary_kd_loss",
    ),
    Question(
        "regression head",
        "faq#faq-other-heads",
        "has no softmax at all",
        "is softened by the same temperature",
        "09#numbers-in-place-of-classes",
        "the squared distance to its answer",
    ),
    Question(
        "binary classification",
        "faq#faq-other-heads",
        "one number to say for each picture: how sure it is",
        "as much to say as with ten classes",
        "09#yes-or-no-and-many-labels-at-once",
        r"labels have the shape \(N, 1\)",
    ),
    Question(
        "unlabeled data",
        "faq#faq-labels-needed",
        "pass the others as unlabelled=",
        "give the others the label -1",
        "09#pictures-without-labels",
        "unlabelled=others",
    ),
    Question(
        "resume",
        "faq#faq-resume",
        r"checkpoint=.+goes on from it",
        "It begins again with the first epoch",
        "api#kdutils.train.fit",
        "If it is there at the start, training goes on from it",
    ),
    Question(
        "two GPUs",
        "faq#faq-two-gpus",
        "unchanged, under torchrun",
        "inside nn.DataParallel",
        "09#data-that-does-not-fit-into-memory",
        "torchrun --nproc_per_node=2",
    ),
    Question(
        "own dataset",
        "faq#faq-own-data",
        "Pass a DataLoader of your dataset, or a Split of tensors",
        "Only MNIST and the small digits can be loaded",
        "09#a-folder-of-pictures",
        "ImageFolder of torchvision reads it",
    ),
    Question("trained weights", "faq#faq-weights", None, None, "weights#in-book-results", r"kdutils\.load_model\("),
    Question("cite", "faq#faq-cite", None, None, "index#how-to-cite", r"@software\{"),
    Question(
        "95 % interval",
        "notation#interval",
        "Not the range of single runs",
        "95 % of all runs lie in it",
        "04#the-test-set-once",
    ),
]
ASKED = pytest.mark.parametrize("question", EXAM, ids=[question.words for question in EXAM])


def section(place: str) -> tuple[str, Tag]:
    """The page and the section of a place; a page by how its name begins, since chapters are renamed and divided."""
    name, _, anchor = place.partition("#")
    found = [(page, parsed(page).find(id=anchor)) for page in PAGES if page.startswith(f"book/{name}")]
    ((page, tag),) = [(page, tag) for page, tag in found if tag]
    return page, tag if tag.name == "section" else tag.find_parent(["section", "dl"])


def text_of(place: str) -> str:
    return " ".join(section(place)[1].get_text().split())


@pytest.fixture(scope="module")
def found(browser, address) -> dict[str, list[str]]:
    """For the words of each question the pages that the site's own search lists; it keeps the best at the end."""
    page = browser.new_page()
    page.goto(f"{address}/search.html")
    wait_until(page, "typeof Search === 'object' && Search._index")
    listed = page.evaluate(FIND, [question.words for question in EXAM])
    page.close()
    return {words: pages[::-1] for words, pages in listed}


@ASKED
def test_the_search_leads_to_the_answer(found, question):
    page, _ = section(question.answer)
    assert page.removesuffix(".html") in found[question.words][:FIRST]


@ASKED
def test_the_answer_is_right(question):
    if question.says:
        assert re.search(question.says, text_of(question.answer))


@ASKED
def test_the_answer_leads_to_where_it_is_shown(question):
    page, tag = section(question.answer)
    shown_on, shown = section(question.shown)
    inside = {shown.get("id"), *(part["id"] for part in shown.find_all(id=True))}
    targets = [urlsplit(link["href"]) for link in tag.select("a.reference.internal")]
    here = page.rpartition("/")[0]
    led = {unquote(target.fragment) for target in targets if f"{here}/{target.path}" == shown_on}
    # A page of which the whole answers is linked as a whole.
    assert led & inside or led == {""}, f"{sorted(led)} on {shown_on}"
    assert re.search(question.proof or "", text_of(question.shown))


@pytest.mark.parametrize("question", [q for q in EXAM if q.says], ids=lambda question: question.words)
def test_a_wrong_answer_would_be_seen(question):
    assert not re.search(question.says, question.wrong)
