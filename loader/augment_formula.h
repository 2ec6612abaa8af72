/*
 * The arithmetic of augmentation, one pixel at a time, written so that a C compiler and nvcc
 * both accept it: the CPU passes in pixels.c and a CUDA kernel run the same formulas, so that
 * the tests of one cover the other.
 *
 * Values are RGB floats in [0,1].  The semantics are torchvision's on float tensors
 * (torchvision/transforms/_functional_tensor.py): every colour operation clamps to [0,1].
 */
#ifndef WL_LOADER_AUGMENT_FORMULA_H
#define WL_LOADER_AUGMENT_FORMULA_H

#ifdef __CUDACC__
#define WL_AUG_FN __host__ __device__ static inline
#else
#define WL_AUG_FN static inline
#endif

/* Ternaries, not fminf/fmaxf: they map to one min/max instruction each. */
WL_AUG_FN float wl_aug_clamp01(float v)
{
	v = v > 0.0f ? v : 0.0f;
	return v < 1.0f ? v : 1.0f;
}

/* YCbCr to RGB in place, full range, chroma around 128 of 255 (JFIF, ITU-T T.871). */
WL_AUG_FN void wl_aug_ycc(float *y, float *cb, float *cr)
{
	const float mid = 128.0f / 255.0f;
	float Y = *y, u = *cb - mid, v = *cr - mid;

	*y = wl_aug_clamp01(Y + 1.402f * v);
	*cb = wl_aug_clamp01(Y - 0.344136286f * u - 0.714136286f * v);
	*cr = wl_aug_clamp01(Y + 1.772f * u);
}

/* Luma as rgb_to_grayscale weighs it (ITU-R BT.601, four digits). */
WL_AUG_FN float wl_aug_luma(float r, float g, float b)
{
	return 0.2989f * r + 0.587f * g + 0.114f * b;
}

/* clamp(f v + (1 - f) base): brightness has base 0, contrast the picture's mean luma,
 * saturation the pixel's luma. */
WL_AUG_FN float wl_aug_blend(float v, float base, float f)
{
	return wl_aug_clamp01(f * v + (1.0f - f) * base);
}

WL_AUG_FN void wl_aug_saturate(float *r, float *g, float *b, float f)
{
	float y = wl_aug_luma(*r, *g, *b);

	*r = wl_aug_blend(*r, y, f);
	*g = wl_aug_blend(*g, y, f);
	*b = wl_aug_blend(*b, y, f);
}

/* One channel of HSV -> RGB in the branch-free form: v - c max(0, min(k, 4 - k, 1)) with
 * k = (n + 6h) mod 6, n = 5, 3, 1 for R, G, B and c = v s the chroma. */
WL_AUG_FN float wl_aug_hsv_channel(float v, float c, float h6, float n)
{
	float k = n + h6, m;

	k = k >= 6.0f ? k - 6.0f : k;
	m = 4.0f - k;
	m = k < m ? k : m;
	m = m < 1.0f ? m : 1.0f;
	m = m > 0.0f ? m : 0.0f;
	return v - c * m;
}

/* Turns the hue by f (in turns, -0.5 .. 0.5): RGB -> HSV -> RGB with one division. */
WL_AUG_FN void wl_aug_hue(float *r, float *g, float *b, float f)
{
	float R = *r, G = *g, B = *b;
	float mx = R > G ? R : G, mn = R < G ? R : G, c, inv, h, hg, hb;

	mx = mx > B ? mx : B;
	mn = mn < B ? mn : B;
	c = mx - mn;
	inv = 1.0f / (c > 0.0f ? c : 1.0f);
	h = (G - B) * inv;
	hg = 2.0f + (B - R) * inv;
	hb = 4.0f + (R - G) * inv;
	hg = mx == G ? hg : hb;
	h = mx == R ? h : hg;
	h += 6.0f * f; /* [-1, 5] before, [-4, 8] after */
	h = h < 0.0f ? h + 6.0f : h;
	h = h >= 6.0f ? h - 6.0f : h;
	*r = wl_aug_hsv_channel(mx, c, h, 5.0f);
	*g = wl_aug_hsv_channel(mx, c, h, 3.0f);
	*b = wl_aug_hsv_channel(mx, c, h, 1.0f);
}

/* The triangle filter of antialiased bilinear resizing, at distance x in output pixels. */
WL_AUG_FN double wl_aug_triangle(double x)
{
	x = x < 0.0 ? -x : x;
	return x < 1.0 ? 1.0 - x : 0.0;
}

/* Index i reflected into 0..n-1 without repeating the edge (torch's "reflect"), for
 * -n < i < 2n - 1. */
WL_AUG_FN int wl_aug_reflect(int i, int n)
{
	i = i < 0 ? -i : i;
	return i < n ? i : 2 * (n - 1) - i;
}

#endif
