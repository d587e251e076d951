package dataflow

import "strings"

// maxComparisons bounds the search for near names in one file: with 10,000 nodes and
// 50,000 wrong names there would be half a billion.
const maxComparisons = 500_000

// longestName that is looked at; longer ones are no typing errors.
const longestName = 64

// Nearest gives the candidate that word was probably meant to be, or "": for "did you
// mean" in messages about names.
func Nearest(word string, candidates []string) string { return nearest(word, candidates) }

// nearest gives the candidate that word was probably meant to be, or "". The
// distance counts inserted, deleted, replaced and swapped neighbouring characters;
// up to a third of the word may differ, and 3 characters at most. Words of one or two
// characters have no near names: any other short name would be one.
func nearest(word string, candidates []string) string {
	limit := min(3, len(word)/3)
	if limit == 0 || len(word) > longestName {
		return ""
	}
	lower := strings.ToLower(word)
	best, bestDistance := "", limit+1
	for _, c := range candidates {
		if d := len(c) - len(word); c == word || d > limit || -d > limit {
			continue
		}
		if d := editDistance(lower, strings.ToLower(c), bestDistance); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// editDistance is the restricted Damerau-Levenshtein distance in bytes; anything at
// or above limit is given as limit. b has at most longestName + 3 bytes.
func editDistance(a, b string, limit int) int {
	var rows [3][longestName + 4]int
	prev2, prev, row := &rows[0], &rows[1], &rows[2]
	for j := range len(b) + 1 {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		least := i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], prev2[j-2]+1)
			}
			least = min(least, row[j])
		}
		if least >= limit {
			return limit
		}
		prev2, prev, row = prev, row, prev2
	}
	return min(prev[len(b)], limit)
}

// quoteList renders names as `a`, `b`, `c`; at most 40 of them.
func quoteList(names []string) string {
	const most = 40
	more := ""
	if len(names) > most {
		names, more = names[:most], ", ..."
	}
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = "`" + excerpt(n) + "`"
	}
	return strings.Join(quoted, ", ") + more
}
