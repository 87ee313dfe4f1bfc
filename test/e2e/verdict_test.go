package e2e

import "testing"

// TestVerdictSeesEveryWrong: a checker that finds nothing has to be able to.
func TestVerdictSeesEveryWrong(t *testing.T) {
	t.Parallel()
	acked := []acknowledged{{"a 0 1", 1}, {"b 0 1", 2}, {"a 1 2", 3}}
	for name, test := range map[string]struct {
		since uint64
		heard []heard
		want  verdict
	}{
		"all is well":             {0, []heard{{offset: 1, text: "a 0 1"}, {offset: 2, text: "b 0 1"}, {offset: 3, text: "a 1 2"}}, verdict{}},
		"one more, never acked":   {0, []heard{{offset: 1, text: "a 0 1"}, {offset: 2, text: "b 0 1"}, {offset: 3, text: "a 1 2"}, {offset: 4, text: "c 0 1"}}, verdict{}},
		"came in after the first": {1, []heard{{offset: 2, text: "b 0 1"}, {offset: 3, text: "a 1 2"}}, verdict{}},
		"what was before":         {2, []heard{{offset: 2, text: "b 0 1"}, {offset: 3, text: "a 1 2"}}, verdict{disordered: 1}},
		"lost":                    {0, []heard{{offset: 1, text: "a 0 1"}, {offset: 3, text: "a 1 2"}}, verdict{lost: 1}},
		"at another offset":       {0, []heard{{offset: 1, text: "a 0 1"}, {offset: 2, text: "b 0 1"}, {offset: 4, text: "a 1 2"}}, verdict{lost: 1}},
		"twice in the log":        {0, []heard{{offset: 1, text: "a 0 1"}, {offset: 2, text: "b 0 1"}, {offset: 3, text: "a 1 2"}, {offset: 4, text: "b 0 1"}}, verdict{lost: 1, duplicated: 1, disordered: 1}},
		"offsets fall":            {0, []heard{{offset: 2, text: "b 0 1"}, {offset: 1, text: "a 0 1"}, {offset: 3, text: "a 1 2"}}, verdict{disordered: 1}},
		"a sender's own fall":     {0, []heard{{offset: 1, text: "a 1 2"}, {offset: 2, text: "b 0 1"}, {offset: 3, text: "a 0 1"}}, verdict{lost: 2, disordered: 1}},
	} {
		var got verdict
		got.add(test.since, test.heard, acked)
		test.want.heard = len(test.heard)
		if got != test.want {
			t.Errorf("%s: %+v, want %+v", name, got, test.want)
		}
	}
}
