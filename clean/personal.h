/*
 * Personal information in a text: found with precise boundaries, and masked.
 *
 *   mobile     11 digits of an assigned series, also with +86, in groups of 3-4-4, full-width or
 *              as Chinese numerals; not inside longer numbers
 *   landline   area code and number (010-12345678, (0755) 1234567), or 7 to 8 digits right
 *              behind a word such as 电话
 *   id_card    18 characters with province, birth date and the check of GB 11643 (ISO 7064
 *              MOD 11-2), also 6-8-4; 15 digits with province and date behind 身份证
 *   bank_card  a number of a card scheme with Luhn's check: UnionPay's (62) wherever it stands,
 *              others in groups of four or behind a word such as 卡号
 *   email      local part and a domain whose last label is letters; ＠ and full-width too
 *   qq         5 to 11 digits behind QQ, 扣扣, 企鹅号, ...
 *   wechat     an id, or a number, behind 微信, vx, 薇信, ...
 *   address    house and room (路12号3栋501室), or road and number behind a word such as 住址
 *   plate      province, letter, five or six letters and digits (京A·12345, 沪AD12345)
 */
#ifndef WL_CLEAN_PERSONAL_H
#define WL_CLEAN_PERSONAL_H

#include <stddef.h>
#include <stdint.h>

enum wl_personal {
	WL_MOBILE,
	WL_LANDLINE,
	WL_ID_CARD,
	WL_BANK_CARD,
	WL_EMAIL,
	WL_QQ,
	WL_WECHAT,
	WL_ADDRESS,
	WL_PLATE,
	WL_PERSONAL_KINDS,
};
/* The names above ("id_card"), NULL-terminated, in the enum's order. */
extern const char *const wl_personal_names[WL_PERSONAL_KINDS + 1];

/* A set of kinds. */
#define WL_PERSONAL_BIT(kind) (1u << (kind))
enum { WL_PERSONAL_ALL = (1 << WL_PERSONAL_KINDS) - 1 };

struct wl_cps;

/* Counts what is found of each kind of `look` and writes "***" over what is in `mask` (fewer
 * stars where less was there).  In place; adds to counts.  Masks are not found again. */
void wl_personal_mask(
	struct wl_cps *t, unsigned look, unsigned mask, int counts[WL_PERSONAL_KINDS]);

#endif
