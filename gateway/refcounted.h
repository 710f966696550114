// Reference counting without atomics, for objects that never leave their worker's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

namespace sluice::gateway {

// Base of `T`. When the last RefPtr goes, T::recycle() is called if there is one (it takes the
// object back, for example into a free list), else the object is destroyed.
template <typename T>
class RefCounted {
 public:
  RefCounted(const RefCounted&) = delete;
  RefCounted& operator=(const RefCounted&) = delete;

  std::uint32_t use_count() const { return references_; }

 protected:
  RefCounted() = default;
  ~RefCounted() = default;

 private:
  template <typename>
  friend class RefPtr;

  void acquire() { ++references_; }
  void release() {
    if (--references_ != 0) return;
    if constexpr (requires(T& object) { object.recycle(); }) {
      static_cast<T*>(this)->recycle();
    } else {
      std::default_delete<T>{}(static_cast<T*>(this));
    }
  }

  std::uint32_t references_ = 0;
};

// Owns one reference. Not thread safe.
template <typename T>
class RefPtr {
 public:
  constexpr RefPtr() = default;
  constexpr RefPtr(std::nullptr_t) {}
  explicit RefPtr(T* object) : object_(object) {
    if (object_) object_->acquire();
  }
  // Takes over a new object; T without recycle() is deleted with its last reference.
  explicit RefPtr(std::unique_ptr<T> object) : RefPtr(object.release()) {}
  RefPtr(const RefPtr& other) : RefPtr(other.object_) {}
  RefPtr(RefPtr&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  RefPtr& operator=(RefPtr other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~RefPtr() {
    if (object_) object_->release();
  }

  void reset() { RefPtr().swap(*this); }
  void swap(RefPtr& other) noexcept { std::swap(object_, other.object_); }
  T* get() const { return object_; }
  T& operator*() const { return *object_; }
  T* operator->() const { return object_; }
  explicit operator bool() const { return object_ != nullptr; }
  bool operator==(const RefPtr& other) const = default;

 private:
  T* object_ = nullptr;
};

template <typename T, typename... Arguments>
RefPtr<T> make_ref(Arguments&&... arguments) {
  return RefPtr<T>(std::make_unique<T>(std::forward<Arguments>(arguments)...));
}

}  // namespace sluice::gateway
