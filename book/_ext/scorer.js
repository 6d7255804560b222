// How the search orders what it finds: as Sphinx does, but of equals the questions and answers come first.
var Scorer = {
  score: ([page, , , , score]) => score + (page === 'book/faq' ? 1 : 0),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
