/* The tables of backbones.  See encoder.h. */
#include "train/model/encoder.h"

#include "train/model/bert.h"
#include "train/model/efficientnet.h"
#include "train/model/vit.h"

#include <string.h>

static const struct wl_text_encoder *const text_encoders[] = {&wl_bert_encoder};

const struct wl_image_encoder *wl_image_encoder_find(const char *name, struct wl_err *err)
{
	if (wl_effnet_known(name))
		return &wl_effnet_encoder;
	if (wl_vit_known(name))
		return &wl_vit_encoder;
	wl_err_set(err, WL_EUSAGE,
		"there is no image encoder \"%.60s\"; there are b0 to b7, lite0 to lite4, "
		"vit-ti16, vit-s16, vit-b16, vit-b32 and vit-l16", name);
	return NULL;
}

const struct wl_text_encoder *wl_text_encoder_find(const char *name, struct wl_err *err)
{
	for (size_t i = 0; i < sizeof text_encoders / sizeof *text_encoders; i++)
		if (!strcmp(name, text_encoders[i]->name))
			return text_encoders[i];
	wl_err_set(err, WL_EUSAGE, "there is no text encoder \"%.60s\"; there is bert", name);
	return NULL;
}
