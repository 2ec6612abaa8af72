/*
 * The tokeniser pass of coco-caption and of AI Challenger's evaluator: Stanford's
 * PTBTokenizer 3.4.1 with -preserveLines -lowerCase, then punctuation dropped (ptbtokenizer.py's
 * list).
 *
 * Rules and tables were found by running the public tool over every character of the basic plane
 * and over mixtures of words, numbers and signs.  Covered: Chinese and Latin words, numbers,
 * hyphens, contractions, acronyms and the usual abbreviations, every sign.  Not covered: web and
 * mail addresses, telephone numbers with blanks, SGML tags, emoticons.
 *
 * What surprises: signs such as 《》【】「」 vanish, while ，。！？、（） stay as tokens; "-lrb-"
 * stays, because the list of what is dropped has it in capitals; "!!" stays, "!" goes.
 */
#ifndef WL_EVAL_METRICS_PTB_H
#define WL_EVAL_METRICS_PTB_H

#include "ops/buf.h"

/* Adds the tokens of a line of UTF-8 text to out, joined by single blanks. */
WL_MUST_CHECK int wl_ptb_tokens(const char *text, size_t n, struct wl_buf *out, struct wl_err *err);

#endif
